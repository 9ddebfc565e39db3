//! What a guest sends while a process runs, checked.
//!
//! ```text
//! started ──► (stdout | stderr)* ──► exited ──► end of the stream
//! ```

use protocol::ErrorCode;
use protocol::v1::RunResponse;
use protocol::v1::run_response::Response;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::check;
use super::error::{self, GuestError};
use crate::limits::{OUTPUT_MESSAGE_BYTES, RUN_END};

const ERRORS: &[ErrorCode] = &[
    ErrorCode::CommandNotFound,
    ErrorCode::CommandNotExecutable,
    ErrorCode::ProcessNotStarted,
    ErrorCode::InvalidArgument,
    ErrorCode::NotSupported,
    ErrorCode::LimitExceeded,
    ErrorCode::SandboxClosed,
    ErrorCode::Internal,
];

/// The answers to one `Run`. Dropping it cancels the call.
#[derive(Debug)]
pub struct RunStream {
    answers: Streaming<RunResponse>,
    closed: CancellationToken,
    order: Order,
}

impl RunStream {
    pub(super) fn new(answers: Streaming<RunResponse>, closed: CancellationToken) -> Self {
        Self { answers, closed, order: Order::NotStarted }
    }

    pub(super) async fn read(status: Status, closed: &CancellationToken) -> GuestError {
        error::read(status, ERRORS, closed).await
    }

    /// The next message; `None` after the last. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`GuestError`]; the stream is of no use afterwards.
    pub async fn next(&mut self) -> Result<Option<Response>, GuestError> {
        if self.order == Order::Exited {
            return self.end().await.map(|()| None);
        }
        let answer = match self.answers.message().await {
            Ok(answer) => answer,
            Err(status) => return Err(Self::read(status, &self.closed).await),
        };
        let Some(answer) = answer else {
            return Err(self.ended_early().await);
        };
        let response = answer
            .response
            .ok_or_else(|| GuestError::Protocol("Run sent an empty message".to_owned()))?;
        self.order = self.order.after(&response).map_err(GuestError::Protocol)?;
        Ok(Some(response))
    }

    /// The stream must end after `exited`.
    async fn end(&mut self) -> Result<(), GuestError> {
        match timeout(RUN_END, self.answers.message()).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(_))) => Err(GuestError::Protocol("Run went on after its end".to_owned())),
            Ok(Err(status)) => Err(Self::read(status, &self.closed).await),
            Err(_) => Err(GuestError::Deadline { what: "end the call", after: RUN_END }),
        }
    }

    async fn ended_early(&self) -> GuestError {
        // A connection that breaks ends its streams first.
        let lost = Status::from_error(Box::from("the stream ended"));
        match Self::read(lost, &self.closed).await {
            GuestError::Lost => GuestError::Lost,
            _ => GuestError::Protocol("Run ended before the process did".to_owned()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    NotStarted,
    Running,
    Exited,
}

impl Order {
    /// Checks a message against where the stream is.
    pub(super) fn after(self, response: &Response) -> Result<Self, String> {
        let output = |stream: &str, length: usize| match length {
            0 => Err(format!("Run sent an empty piece of {stream}")),
            1..=OUTPUT_MESSAGE_BYTES => Ok(Self::Running),
            _ => Err(format!("Run sent {length} bytes of {stream} in one piece")),
        };
        match (self, response) {
            (Self::NotStarted, Response::Started(started)) => {
                check::pid(started.pid).map(|_| Self::Running)
            }
            (Self::Running, Response::Stdout(data)) => output("stdout", data.len()),
            (Self::Running, Response::Stderr(data)) => output("stderr", data.len()),
            (Self::Running, Response::Exited(end)) => check::exited(end).map(|()| Self::Exited),
            (Self::Running, Response::Started(_)) => Err("Run started twice".to_owned()),
            (Self::NotStarted, _) => Err("Run did not begin with its start".to_owned()),
            (Self::Exited, _) => Err("Run went on after its end".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::v1::{ProcessExited, ProcessStarted};

    use super::*;

    fn walk(responses: &[Response]) -> Result<Order, String> {
        responses.iter().try_fold(Order::NotStarted, |order, response| order.after(response))
    }

    fn started(pid: u32) -> Response {
        Response::Started(ProcessStarted { pid })
    }

    fn out(length: usize) -> Response {
        Response::Stdout(Bytes::from(vec![0; length]))
    }

    fn exited(code: u32) -> Response {
        Response::Exited(ProcessExited { exit_code: Some(code), ..ProcessExited::default() })
    }

    #[test]
    fn a_process_starts_writes_and_exits() {
        let err = Response::Stderr(Bytes::from_static(b"e"));
        let run = [started(7), out(1), err, out(OUTPUT_MESSAGE_BYTES), exited(0)];
        assert_eq!(walk(&run), Ok(Order::Exited));
    }

    #[test]
    fn wrong_order_size_and_numbers_are_refused() {
        let bad: [&[Response]; 9] = [
            &[out(1)],
            &[exited(0)],
            &[started(1)],
            &[started(0)],
            &[started(7), started(7)],
            &[started(7), out(0)],
            &[started(7), out(OUTPUT_MESSAGE_BYTES + 1)],
            &[started(7), exited(256)],
            &[started(7), exited(0), out(1)],
        ];
        for run in bad {
            assert!(walk(run).is_err(), "{run:?}");
        }
    }
}
