//! How an [`ErrorDetail`] travels in a gRPC status: as the one `Any` of the `google.rpc.Status` in
//! the status details, the way every gRPC client library reads it.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::{ErrorCode, ErrorDetail};

const TYPE_URL: &str = "type.googleapis.com/lanebox.v1.ErrorDetail";

/// `google.rpc.Status`, the three fields that every gRPC implementation agrees on.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

impl ErrorDetail {
    /// An error of a kind with a sentence for people.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), ..Self::default() }
    }

    /// The same error with what the user can do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The same error with the Linux name of the system's error, such as `ENOENT`.
    #[must_use]
    pub fn with_errno(mut self, errno: impl Into<String>) -> Self {
        self.errno = errno.into();
        self
    }

    /// The same error with the boot step it happened in.
    #[must_use]
    pub fn with_step(mut self, step: impl Into<String>) -> Self {
        self.step = step.into();
        self
    }
}

impl From<ErrorDetail> for Status {
    fn from(detail: ErrorDetail) -> Self {
        let code = grpc_code(detail.code());
        let message = detail.message.clone();
        let any = Any { type_url: TYPE_URL.to_owned(), value: detail.encode_to_vec() };
        let body = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
        Status::with_details(code, message, body.encode_to_vec().into())
    }
}

/// The [`ErrorDetail`] of a status; `None` when it carries none or a malformed one.
pub fn detail(status: &Status) -> Option<ErrorDetail> {
    let body = RpcStatus::decode(status.details()).ok()?;
    let any = body.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// The gRPC code beside an error code, for clients that know nothing of ours.
fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotSupported => Code::Unimplemented,
        ErrorCode::ArtifactMissing | ErrorCode::CommandNotFound | ErrorCode::NotFound => {
            Code::NotFound
        }
        ErrorCode::IsolationUnavailable
        | ErrorCode::ArtifactInvalid
        | ErrorCode::BootFailed
        | ErrorCode::CommandNotExecutable
        | ErrorCode::ProcessNotStarted
        | ErrorCode::FileError => Code::FailedPrecondition,
        ErrorCode::SandboxExited | ErrorCode::SandboxClosed => Code::Unavailable,
        ErrorCode::Timeout => Code::DeadlineExceeded,
        ErrorCode::LimitExceeded => Code::ResourceExhausted,
        ErrorCode::GuestProtocol | ErrorCode::Internal | ErrorCode::Unspecified => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_survives_the_way_through_a_status() {
        let sent = ErrorDetail::new(ErrorCode::BootFailed, "No root")
            .with_errno("ENOENT")
            .with_step("mount-root")
            .with_remedy("Build it");
        let status = Status::from(sent.clone());
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(detail(&status), Some(sent));
    }

    #[test]
    fn status_without_or_with_broken_details_has_none() {
        assert_eq!(detail(&Status::internal("x")), None);
        let broken = Status::with_details(Code::Internal, "x", vec![0xff, 0x01, 0x02].into());
        assert_eq!(detail(&broken), None);
    }
}
