//! Questions to the client that serves a mount, and their answers, matched by number.
//!
//! ```text
//! ask: credit ─► question (pending) ─► client        hear: answer ─► pending ─► who asked
//!   dropped ─► cancel; the credit stays with the question until it is answered
//!   the stream ends ─► every question, pending or later, is Gone
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::v1;
use protocol::v1::filesystem_call::Call;
use protocol::v1::serve_filesystem_response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use vfs::callbacks::FilePath;

use super::answer::{Expected, Gathering, Outcome, Taken};
use super::report::{Problem, Reporter};
use crate::limits::{
    FILESYSTEM_CHANGES, FILESYSTEM_CLOSING, FILESYSTEM_GATHERED, FILESYSTEM_WRITE_BYTES,
};

/// The stream has ended, or the VM is closing and has no more time: the operation is EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What the client did that ends its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// A message that cannot be there.
    Sequence(&'static str),
    /// An answer to what was never asked.
    NeverAsked(u64),
    /// More changes in one message than there can be.
    Changes(usize),
}

/// What a mounted link reports to.
pub(super) struct Mounted {
    pub(super) reporter: Arc<Reporter>,
    pub(super) changed: Box<dyn Fn(&FilePath) + Send + Sync>,
}

/// One stream's questions.
pub struct Link {
    state: Mutex<State>,
    credits: Arc<Semaphore>,
    /// Bytes of writes that are under way: they are kept until they are answered.
    writing: Arc<Semaphore>,
    ended: CancellationToken,
    closing: CancellationToken,
    mounted: OnceLock<Mounted>,
}

struct State {
    /// The number of the next question.
    next: u64,
    pending: HashMap<u64, Question>,
    /// Entries of lists that have come in part.
    gathered: usize,
    /// Gone with the stream.
    out: Option<mpsc::Sender<v1::ServeFilesystemResponse>>,
}

struct Question {
    gathering: Gathering,
    /// Who asked, while it wants to know.
    asker: Option<oneshot::Sender<Outcome>>,
    _credit: OwnedSemaphorePermit,
    _writing: Option<OwnedSemaphorePermit>,
}

impl Link {
    /// A link with so many credits, and what it says to the client.
    #[must_use]
    pub fn new(credits: u16) -> (Arc<Self>, mpsc::Receiver<v1::ServeFilesystemResponse>) {
        // Each credit has its question and its cancellation under way, and `attached` was first.
        let (out, said) = mpsc::channel(2 * usize::from(credits) + 1);
        let attached = Response::Attached(v1::FilesystemAttached {});
        let _ = out.try_send(v1::ServeFilesystemResponse { response: Some(attached) });
        let state = State { next: 1, pending: HashMap::new(), gathered: 0, out: Some(out) };
        let link = Self {
            state: Mutex::new(state),
            credits: Arc::new(Semaphore::new(credits.into())),
            writing: Arc::new(Semaphore::new(FILESYSTEM_WRITE_BYTES as usize)),
            ended: CancellationToken::new(),
            closing: CancellationToken::new(),
            mounted: OnceLock::new(),
        };
        (Arc::new(link), said)
    }

    /// Asks. The caller has the deadline: dropping the future takes the question back.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn ask(
        &self,
        path: &FilePath,
        call: Call,
        expected: Expected,
        writes: u32,
    ) -> Result<Outcome, Gone> {
        tokio::select! {
            biased;
            outcome = self.exchange(path, call, expected, writes) => outcome,
            () = self.ended.cancelled() => Err(Gone),
            () = self.out_of_time() => Err(Gone),
        }
    }

    /// Fires when the stream has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// The VM is closing: what is not answered soon is not waited for.
    pub(super) fn hurry(&self) {
        self.closing.cancel();
    }

    /// The mount is made; `false` when it was before.
    pub(super) fn mount(&self, mounted: Mounted) -> bool {
        self.mounted.set(mounted).is_ok()
    }

    /// Ends the stream; with a reason it is a problem of the mount.
    pub(super) fn end(&self, problem: Option<&str>) {
        if self.ended.is_cancelled() {
            return;
        }
        self.ended.cancel();
        let (pending, out) = {
            let mut state = self.state();
            state.gathered = 0;
            (std::mem::take(&mut state.pending), state.out.take())
        };
        drop((pending, out));
        if let (Some(problem), Some(mounted)) = (problem, self.mounted.get()) {
            mounted.reporter.tell(Problem::Detached, Vec::new(), problem.to_owned());
        }
    }

    /// Takes what the client says.
    ///
    /// # Errors
    /// [`Breach`]: the stream must end.
    pub fn hear(&self, request: v1::ServeFilesystemRequest) -> Result<(), Breach> {
        use v1::serve_filesystem_request::Request;
        match request.request {
            Some(Request::Answer(answer)) => self.answered(answer),
            Some(Request::Changed(changed)) => self.changed(&changed),
            Some(Request::Attach(_)) => {
                Err(Breach::Sequence("ServeFilesystem takes one attach, and it comes first"))
            }
            None => Err(Breach::Sequence("ServeFilesystem takes no empty requests")),
        }
    }

    async fn out_of_time(&self) {
        self.closing.cancelled().await;
        tokio::time::sleep(FILESYSTEM_CLOSING).await;
    }

    async fn exchange(
        &self,
        path: &FilePath,
        call: Call,
        expected: Expected,
        writes: u32,
    ) -> Result<Outcome, Gone> {
        let writing = match writes {
            0 => None,
            writes => {
                let writes = writes.min(FILESYSTEM_WRITE_BYTES);
                let permits = Arc::clone(&self.writing).acquire_many_owned(writes);
                Some(permits.await.map_err(|_| Gone)?)
            }
        };
        let credit = Arc::clone(&self.credits).acquire_owned().await.map_err(|_| Gone)?;
        let (asker, outcome) = oneshot::channel();
        let question = Question {
            gathering: Gathering::new(expected),
            asker: Some(asker),
            _credit: credit,
            _writing: writing,
        };
        let mut asked = self.put(path, call, question)?;
        let outcome = outcome.await.map_err(|_| Gone);
        asked.answered = true;
        outcome
    }

    fn put(&self, path: &FilePath, call: Call, question: Question) -> Result<Asked<'_>, Gone> {
        let mut state = self.state();
        let out = state.out.clone().ok_or(Gone)?;
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, question);
        let path = path.as_bytes().to_vec().into();
        let call = v1::FilesystemCall { id, path, call: Some(call) };
        let response = Some(Response::Call(call));
        let sent = out.try_send(v1::ServeFilesystemResponse { response });
        drop(state);
        match sent {
            Ok(()) => Ok(Asked { link: self, id, answered: false }),
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
        state.gathered = state.gathered.saturating_sub(question.gathering.held());
        question.gathering = Gathering::new(Expected::Done);
        let response = Some(Response::Cancel(v1::CancelFilesystemCall { id }));
        if let Some(out) = &state.out {
            let _ = out.try_send(v1::ServeFilesystemResponse { response });
        }
    }

    fn answered(&self, answer: v1::FilesystemAnswer) -> Result<(), Breach> {
        let id = answer.id;
        let mut state = self.state();
        if id == 0 || id >= state.next {
            return Err(Breach::NeverAsked(id));
        }
        let state = &mut *state;
        let Some(question) = state.pending.get_mut(&id) else {
            let problem = format!("Question {id} was answered twice");
            self.report(Problem::WrongAnswer, problem);
            return Ok(());
        };
        let before = question.gathering.held();
        let Taken { mut outcome, more } = match question.asker {
            Some(_) => question.gathering.take(answer),
            // Nobody wants it: only its end is looked for.
            None => Taken { outcome: None, more: has_more(&answer) },
        };
        let held = question.gathering.held();
        state.gathered = (state.gathered + held).saturating_sub(before);
        if state.gathered > FILESYSTEM_GATHERED && outcome.is_none() && held > 0 {
            let problem = format!("More than {FILESYSTEM_GATHERED} entries in lists under way");
            outcome = Some(Outcome::Wrong(problem));
            state.gathered -= held;
            question.gathering = Gathering::new(Expected::Entries(0));
        }
        if let Some(outcome) = outcome
            && let Some(asker) = question.asker.take()
        {
            // It may just have stopped waiting.
            let _ = asker.send(outcome);
        }
        if !more && let Some(question) = state.pending.remove(&id) {
            state.gathered = state.gathered.saturating_sub(question.gathering.held());
        }
        Ok(())
    }

    fn changed(&self, changed: &v1::FilesystemChanged) -> Result<(), Breach> {
        if changed.paths.len() > FILESYSTEM_CHANGES {
            return Err(Breach::Changes(changed.paths.len()));
        }
        for path in &changed.paths {
            match (FilePath::new(path), self.mounted.get()) {
                (Some(path), Some(mounted)) => (mounted.changed)(&path),
                // Nothing is cached yet.
                (Some(_), None) => {}
                (None, _) => {
                    let path = String::from_utf8_lossy(path);
                    let problem = format!("watch told of {path:?}, which is no path of a mount");
                    self.report(Problem::WrongAnswer, problem);
                }
            }
        }
        Ok(())
    }

    fn report(&self, problem: Problem, message: String) {
        if let Some(mounted) = self.mounted.get() {
            mounted.reporter.tell(problem, Vec::new(), message);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pending = self.state().pending.len();
        f.debug_struct("Link").field("pending", &pending).finish_non_exhaustive()
    }
}

/// A question that is taken back when nobody waits for it any more.
struct Asked<'a> {
    link: &'a Link,
    id: u64,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.link.take_back(self.id);
        }
    }
}

fn has_more(answer: &v1::FilesystemAnswer) -> bool {
    use v1::filesystem_answer::Answer;
    matches!(&answer.answer, Some(Answer::Entries(piece)) if piece.more)
}
