//! Questions to the client that serves callbacks, and their answers, matched by number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::stream::Breach;
use crate::limits::CALLBACK_CLOSING;

/// The stream has ended, or the VM is closing and has no more time: the operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What a kind of callbacks says and hears.
pub trait Dialogue: Send + Sync + 'static {
    /// What is asked, without its number.
    type Call: Send;
    /// A message with an answer, or a piece of one.
    type Answer;
    /// What has come of an answer.
    type Gathering: Gather<Answer = Self::Answer, Outcome = Self::Outcome> + Send;
    /// How a question ends.
    type Outcome: Send;
    /// What the client is told.
    type Said: Send;

    /// Bytes of writes that may be under way: they are kept until they are answered.
    const WRITE_BYTES: u32;
    /// Pieces of answers that may be held, in all.
    const HELD: usize;
    /// Messages beside questions that the client may have left unread.
    const NOTICES: usize = 0;

    /// The stream is in use.
    fn attached() -> Self::Said;
    /// A question with its number.
    fn call(id: u64, call: Self::Call) -> Self::Said;
    /// The answer is of no interest any more.
    fn cancel(id: u64) -> Self::Said;
    /// The number that an answer has.
    fn id(answer: &Self::Answer) -> u64;
    /// Pieces follow.
    fn has_more(answer: &Self::Answer) -> bool;
    /// How a question ends when more is held than may be.
    fn too_much() -> Self::Outcome;
}

/// The answer to one question, as far as it has come.
pub trait Gather {
    /// As in [`Dialogue`].
    type Answer;
    /// As in [`Dialogue`].
    type Outcome;

    /// How many pieces are held.
    fn held(&self) -> usize;
    /// Lets go of what is held: nobody wants it.
    fn clear(&mut self);
    /// Takes an answer, or a piece of one.
    fn take(&mut self, answer: Self::Answer) -> Taken<Self::Outcome>;
}

/// One answer, taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken<O> {
    /// The question's end, unless more has to come first.
    pub outcome: Option<O>,
    /// Pieces follow, wanted or not.
    pub more: bool,
}

/// What the owner should hear of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It has ended.
    Detached,
    /// An answer cannot be.
    WrongAnswer,
}

type Tell = Box<dyn Fn(Trouble, String) + Send + Sync>;

/// One stream's questions.
pub struct Exchange<D: Dialogue> {
    state: Mutex<State<D>>,
    credits: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    ended: CancellationToken,
    closing: CancellationToken,
    tell: OnceLock<Tell>,
}

struct State<D: Dialogue> {
    /// The number of the next question.
    next: u64,
    pending: HashMap<u64, Question<D>>,
    /// Pieces of answers that have come in part.
    held: usize,
    /// Gone with the stream.
    out: Option<mpsc::Sender<D::Said>>,
}

struct Question<D: Dialogue> {
    gathering: D::Gathering,
    /// Who asked, while it wants to know.
    asker: Option<oneshot::Sender<D::Outcome>>,
    _credit: OwnedSemaphorePermit,
    _writing: Option<OwnedSemaphorePermit>,
}

impl<D: Dialogue> Exchange<D> {
    /// An exchange with so many credits, and what it says to the client.
    #[must_use]
    pub fn new(credits: u16) -> (Self, mpsc::Receiver<D::Said>) {
        // Each credit has its question and its cancellation under way, and `attached` was first.
        let (out, said) = mpsc::channel(2 * usize::from(credits) + 1 + D::NOTICES);
        let _ = out.try_send(D::attached());
        let exchange = Self {
            state: Mutex::new(State { next: 1, pending: HashMap::new(), held: 0, out: Some(out) }),
            credits: Arc::new(Semaphore::new(credits.into())),
            writing: Arc::new(Semaphore::new(D::WRITE_BYTES as usize)),
            ended: CancellationToken::new(),
            closing: CancellationToken::new(),
            tell: OnceLock::new(),
        };
        (exchange, said)
    }

    /// Asks; `writes` bytes are in the question. The caller has the deadline: dropping the future
    /// takes the question back.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn ask(
        &self,
        call: D::Call,
        gathering: D::Gathering,
        writes: u32,
    ) -> Result<D::Outcome, Gone> {
        tokio::select! {
            biased;
            outcome = self.exchange(call, gathering, writes) => outcome,
            () = self.ended.cancelled() => Err(Gone),
            () = self.out_of_time() => Err(Gone),
        }
    }

    /// Tells the client something that it does not answer.
    pub fn notify(&self, said: D::Said) {
        let out = self.state().out.clone();
        if let Some(Err(TrySendError::Full(_))) = out.map(|out| out.try_send(said)) {
            self.end(Some("The client has left too much unread"));
        }
    }

    /// Fires when the stream has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// The VM is closing: what is not answered soon is not waited for.
    pub fn hurry(&self) {
        self.closing.cancel();
    }

    /// Who hears of troubles; `false` when there was somebody before.
    pub fn tell_to(&self, tell: impl Fn(Trouble, String) + Send + Sync + 'static) -> bool {
        self.tell.set(Box::new(tell)).is_ok()
    }

    /// Ends the stream; with a reason it is a trouble.
    pub fn end(&self, problem: Option<&str>) {
        if self.ended.is_cancelled() {
            return;
        }
        self.ended.cancel();
        let (pending, out) = {
            let mut state = self.state();
            state.held = 0;
            (std::mem::take(&mut state.pending), state.out.take())
        };
        drop((pending, out));
        if let Some(problem) = problem {
            self.tell(Trouble::Detached, problem.to_owned());
        }
    }

    /// Tells the owner, if there is one yet.
    pub fn tell(&self, trouble: Trouble, message: String) {
        if let Some(tell) = self.tell.get() {
            tell(trouble, message);
        }
    }

    /// Questions that are not answered.
    pub fn pending(&self) -> usize {
        self.state().pending.len()
    }

    async fn out_of_time(&self) {
        self.closing.cancelled().await;
        tokio::time::sleep(CALLBACK_CLOSING).await;
    }

    async fn exchange(
        &self,
        call: D::Call,
        gathering: D::Gathering,
        writes: u32,
    ) -> Result<D::Outcome, Gone> {
        let writing = match writes {
            0 => None,
            writes => {
                let permits =
                    Arc::clone(&self.writing).acquire_many_owned(writes.min(D::WRITE_BYTES));
                Some(permits.await.map_err(|_| Gone)?)
            }
        };
        let credit = Arc::clone(&self.credits).acquire_owned().await.map_err(|_| Gone)?;
        let (asker, outcome) = oneshot::channel();
        let question =
            Question { gathering, asker: Some(asker), _credit: credit, _writing: writing };
        let mut asked = self.put(call, question)?;
        let outcome = outcome.await.map_err(|_| Gone);
        asked.answered = true;
        outcome
    }

    fn put(&self, call: D::Call, question: Question<D>) -> Result<Asked<'_, D>, Gone> {
        let mut state = self.state();
        let out = state.out.clone().ok_or(Gone)?;
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, question);
        let sent = out.try_send(D::call(id, call));
        drop(state);
        match sent {
            Ok(()) => Ok(Asked { exchange: self, id, answered: false }),
            // Only a client that answers without reading what is asked comes to this.
            Err(_) => {
                self.end(Some("The client answers questions that it has not read"));
                Err(Gone)
            }
        }
    }

    fn take_back(&self, id: u64) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(question) = state.pending.get_mut(&id) else { return };
        question.asker = None;
        state.held = state.held.saturating_sub(question.gathering.held());
        question.gathering.clear();
        if let Some(out) = &state.out {
            let _ = out.try_send(D::cancel(id));
        }
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// [`Breach`]: the stream must end.
    pub fn answered(&self, answer: D::Answer) -> Result<(), Breach> {
        let id = D::id(&answer);
        let mut state = self.state();
        if id == 0 || id >= state.next {
            return Err(Breach::NeverAsked(id));
        }
        let state = &mut *state;
        let Some(question) = state.pending.get_mut(&id) else {
            self.tell(Trouble::WrongAnswer, format!("Question {id} was answered twice"));
            return Ok(());
        };
        let before = question.gathering.held();
        let Taken { mut outcome, more } = match question.asker {
            Some(_) => question.gathering.take(answer),
            // Nobody wants it: only its end is looked for.
            None => Taken { outcome: None, more: D::has_more(&answer) },
        };
        let held = question.gathering.held();
        state.held = (state.held + held).saturating_sub(before);
        if state.held > D::HELD && outcome.is_none() && held > 0 {
            outcome = Some(D::too_much());
            state.held -= held;
            question.gathering.clear();
        }
        if let Some(outcome) = outcome
            && let Some(asker) = question.asker.take()
        {
            // It may just have stopped waiting.
            let _ = asker.send(outcome);
        }
        if !more && let Some(question) = state.pending.remove(&id) {
            state.held = state.held.saturating_sub(question.gathering.held());
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that is taken back when nobody waits for it any more.
struct Asked<'a, D: Dialogue> {
    exchange: &'a Exchange<D>,
    id: u64,
    answered: bool,
}

impl<D: Dialogue> Drop for Asked<'_, D> {
    fn drop(&mut self) {
        if !self.answered {
            self.exchange.take_back(self.id);
        }
    }
}
