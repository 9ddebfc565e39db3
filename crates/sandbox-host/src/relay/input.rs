//! What the client sends while a process runs, checked, on its way to the guest.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};
use protocol::v1::run_request::Request;
use protocol::v1::{RunRequest, StartProcess};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Streaming;

use crate::error::Error;
use crate::limits::{FIRST_MESSAGE, STDIN_MESSAGE_BYTES};
use crate::request::{RequestError, check_start};

/// Takes the first message, which says what to run.
pub(super) async fn first(requests: &mut Streaming<RunRequest>) -> Result<StartProcess, Error> {
    const FIRST: Error = Error::Sequence("The first message of Run must be `start`");
    let message = match tokio::time::timeout(FIRST_MESSAGE, requests.message()).await {
        Ok(Ok(message)) => message,
        Ok(Err(status)) => {
            tracing::debug!(%status, "Run without a first message");
            return Err(FIRST);
        }
        Err(_) => return Err(FIRST),
    };
    let Some(Request::Start(start)) = message.and_then(|message| message.request) else {
        return Err(FIRST);
    };
    check_start(&start)?;
    Ok(start)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client's side failed: nothing more is sent, and the call waits to be cancelled, since an
    /// end would look like the end of standard input.
    Failed,
    Ended,
}

/// The messages after the first, as the guest gets them: `start` itself, then standard input.
/// Ends when the client half-closes, when a message is refused (which `refused` is told), or when
/// `over` fires.
pub(super) struct Input {
    start: Option<StartProcess>,
    requests: Streaming<RunRequest>,
    open: bool,
    refused: Option<oneshot::Sender<Error>>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    state: State,
}

impl Input {
    pub(super) fn new(
        start: StartProcess,
        requests: Streaming<RunRequest>,
        refused: oneshot::Sender<Error>,
        over: CancellationToken,
    ) -> Self {
        let open = start.stdin;
        let over = Box::pin(over.cancelled_owned());
        Self {
            start: Some(start),
            requests,
            open,
            refused: Some(refused),
            over,
            state: State::Open,
        }
    }

    fn check(&mut self, request: Option<Request>) -> Result<Request, Error> {
        match request {
            Some(Request::Stdin(_)) if !self.open => {
                Err(Error::Sequence("`stdin` came to a process whose standard input is not open"))
            }
            Some(Request::Stdin(data)) if data.len() > STDIN_MESSAGE_BYTES => {
                let reason = format!("a message holds {STDIN_MESSAGE_BYTES} bytes at most");
                Err(RequestError::new("stdin", data.len(), reason).into())
            }
            Some(Request::CloseStdin(close)) => {
                self.open = false;
                Ok(Request::CloseStdin(close))
            }
            Some(Request::Start(_)) => Err(Error::Sequence("`start` came twice")),
            Some(request) => Ok(request),
            None => Err(Error::Sequence("An empty message came")),
        }
    }

    fn end(&mut self) -> Poll<Option<RunRequest>> {
        self.state = State::Ended;
        Poll::Ready(None)
    }
}

impl Stream for Input {
    type Item = RunRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RunRequest>> {
        if self.state == State::Ended || self.over.as_mut().poll(cx).is_ready() {
            return self.end();
        }
        if self.state == State::Failed {
            return Poll::Pending;
        }
        if let Some(start) = self.start.take() {
            return Poll::Ready(Some(RunRequest { request: Some(Request::Start(start)) }));
        }
        let message = match std::task::ready!(self.requests.poll_next_unpin(cx)) {
            Some(Ok(message)) => self.check(message.request),
            None => return self.end(),
            Some(Err(status)) => {
                // The client cancelled, and its answers end too; or it sent what is no message.
                tracing::debug!(%status, "the client's side of a Run failed");
                Err(Error::Sequence("What came is no message of Run"))
            }
        };
        match message {
            Ok(request) => Poll::Ready(Some(RunRequest { request: Some(request) })),
            Err(error) => {
                if let Some(refused) = self.refused.take() {
                    let _ = refused.send(error);
                }
                // The answers' side hears of it, ends, and fires `over`, which was polled above.
                self.state = State::Failed;
                Poll::Pending
            }
        }
    }
}
