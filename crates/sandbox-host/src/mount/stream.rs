//! One call of `ServeFilesystem`: attached, then questions out and answers in.

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use protocol::v1;
use protocol::v1::serve_filesystem_request::Request;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::link::{Breach, Link};
use super::registry::Registry;
use crate::error::Error;
use crate::limits::{FILESYSTEM_CHANGES, FIRST_MESSAGE, MAX_CREDITS};
use crate::request::RequestError;

/// What the client of one call gets.
pub type Questions =
    Pin<Box<dyn Stream<Item = Result<v1::ServeFilesystemResponse, Status>> + Send>>;

const ID_BYTES: usize = 64;

/// Serves a call until its client leaves or breaks the protocol, or the VM ends.
///
/// # Errors
/// [`Error`] when it does not begin with a sound `attach`.
pub async fn serve(
    registry: &Registry,
    mut requests: Streaming<v1::ServeFilesystemRequest>,
) -> Result<Questions, Error> {
    const FIRST: Error = Error::Sequence("The first request of ServeFilesystem must be attach");
    let first = match timeout(FIRST_MESSAGE, requests.message()).await {
        Ok(Ok(Some(first))) => first,
        _ => return Err(FIRST),
    };
    let Some(Request::Attach(attach)) = first.request else { return Err(FIRST) };
    let credits = check(&attach)?;
    let (link, said) = Link::new(credits);
    registry.attach(&attach.id, Arc::clone(&link))?;
    let (last_word, last) = oneshot::channel();
    tokio::spawn(async move {
        if let Some(error) = listen(&link, requests).await {
            // The client may be gone.
            let _ = last_word.send(Status::from(error));
        }
    });
    let said = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
    let last = stream::once(last).filter_map(|last| ready(last.ok().map(Err)));
    Ok(Box::pin(said.map(Ok).chain(last)))
}

fn check(attach: &v1::AttachFilesystem) -> Result<u16, RequestError> {
    check_id("attach.id", &attach.id)?;
    match u16::try_from(attach.credits) {
        Ok(credits @ 1..=MAX_CREDITS) => Ok(credits),
        _ => {
            let reason = format!("it must be from 1 to {MAX_CREDITS}");
            Err(RequestError::new("attach.credits", attach.credits, reason))
        }
    }
}

/// 1 to 64 letters, digits and dashes.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<(), RequestError> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(sound) {
        return Ok(());
    }
    let reason = format!("it must be 1 to {ID_BYTES} letters, digits and dashes");
    Err(RequestError::new(field, id, reason))
}

/// Hears the client until there is an end; the error that it is told, if that is the end.
async fn listen(link: &Link, mut requests: Streaming<v1::ServeFilesystemRequest>) -> Option<Error> {
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
                let error = Error::Sequence("A message of ServeFilesystem cannot be read");
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
