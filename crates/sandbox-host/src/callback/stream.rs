//! One call of a stream of callbacks: attached, then questions out and answers in.

use std::borrow::Cow;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::registry::Registry;
use crate::error::Error;
use crate::limits::{FILESYSTEM_CHANGES, FIRST_MESSAGE, MAX_CREDITS};
use crate::request::RequestError;

/// What the client of one call gets.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

const ID_BYTES: usize = 64;

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

/// A stream that was attached.
pub struct Attached<L: CallbackStream + ?Sized> {
    /// The name that Boot takes it by.
    pub id: String,
    /// The stream.
    pub link: Arc<L>,
    /// What it says to the client.
    pub said: mpsc::Receiver<L::Response>,
}

/// A stream of one kind.
pub trait CallbackStream: Send + Sync + 'static {
    /// What the client sends.
    type Request: Send + 'static;
    /// What it is sent.
    type Response: Send + 'static;

    /// Says that the first request must be `attach`.
    const FIRST: &'static str;
    /// Says that it comes after Boot.
    const TOO_LATE: &'static str;
    /// Says that a message cannot be read.
    const UNREADABLE: &'static str;
    /// Streams of this kind that a VM can have.
    const MOST: usize;

    /// What the first request attaches.
    ///
    /// # Errors
    /// [`Error`] names the field that makes no sense.
    fn attach(first: Self::Request) -> Result<Attached<Self>, Error>;

    /// Takes what the client says.
    ///
    /// # Errors
    /// [`Breach`]: the stream must end.
    fn hear(&self, request: Self::Request) -> Result<(), Breach>;

    /// Fires when the stream has ended.
    fn ended(&self) -> &CancellationToken;

    /// Ends the stream; with a reason its owner is told.
    fn end(&self, problem: Option<&str>);
}

/// Serves a call until its client leaves or breaks the protocol, or the VM ends.
///
/// # Errors
/// [`Error`] when it does not begin with a sound `attach`.
pub(crate) async fn serve<L: CallbackStream>(
    registry: &Registry<L>,
    mut requests: Streaming<L::Request>,
) -> Result<Responses<L::Response>, Error> {
    let first = match timeout(FIRST_MESSAGE, requests.message()).await {
        Ok(Ok(Some(first))) => first,
        _ => return Err(Error::Sequence(L::FIRST)),
    };
    let Attached { id, link, said } = L::attach(first)?;
    registry.attach(&id, Arc::clone(&link))?;
    let (last_word, last) = oneshot::channel();
    tokio::spawn(async move {
        if let Some(error) = listen(&*link, requests).await {
            // The client may be gone.
            let _ = last_word.send(Status::from(error));
        }
    });
    let said = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
    let last = stream::once(last).filter_map(|last| ready(last.ok().map(Err)));
    Ok(Box::pin(said.map(Ok).chain(last)))
}

/// 1 to 64 letters, digits and dashes.
pub(crate) fn check_id(field: impl Into<Cow<'static, str>>, id: &str) -> Result<(), RequestError> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(sound) {
        return Ok(());
    }
    let reason = format!("it must be 1 to {ID_BYTES} letters, digits and dashes");
    Err(RequestError::new(field, id, reason))
}

/// Questions that the client lets be unanswered at a time.
pub(crate) fn check_credits(credits: u32) -> Result<u16, RequestError> {
    match u16::try_from(credits) {
        Ok(credits @ 1..=MAX_CREDITS) => Ok(credits),
        _ => {
            let reason = format!("it must be from 1 to {MAX_CREDITS}");
            Err(RequestError::new("attach.credits", credits, reason))
        }
    }
}

/// Hears the client until there is an end; the error that it is told, if that is the end.
async fn listen<L: CallbackStream>(link: &L, mut requests: Streaming<L::Request>) -> Option<Error> {
    loop {
        let request = tokio::select! {
            biased;
            () = link.ended().cancelled() => return None,
            request = requests.message() => request,
        };
        let (problem, error) = match request {
            Ok(Some(request)) => match link.hear(request) {
                Ok(()) => continue,
                Err(breach) => ("The client broke the protocol of its callbacks", told(&breach)),
            },
            Ok(None) => ("The client has stopped answering", None),
            Err(status) => {
                tracing::debug!(%status, "a stream of callbacks broke");
                let error = Error::Sequence(L::UNREADABLE);
                ("The stream of the client's callbacks broke", Some(error))
            }
        };
        link.end(Some(problem));
        return error;
    }
}

fn told(breach: &Breach) -> Option<Error> {
    Some(match breach {
        Breach::Sequence(what) => Error::Sequence(what),
        Breach::NeverAsked(id) => {
            RequestError::new("answer.id", id, "no question had this number").into()
        }
        Breach::Changes(count) => {
            let reason = format!("there can be {FILESYSTEM_CHANGES} paths in one message");
            RequestError::new("changed.paths", count, reason).into()
        }
    })
}
