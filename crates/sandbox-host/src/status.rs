//! The one place where errors become what clients see: an [`ErrorDetail`] in a gRPC status.

use std::io;

use blockcow::{AnswerError, FileStoreError, FlattenError, OverlayError};
use engine::StartError;
use nix::errno::Errno;
use protocol::{ErrorCode, ErrorDetail};
use tonic::Status;

use crate::artifact::{ArtifactError, Problem};
use crate::disk::DiskError;
use crate::error::{BootCause, BootFailure, Error};
use crate::flatten::FlattenFailure;
use crate::guest::GuestError;
use crate::lane::Ended;
use crate::limits::CONSOLE_TAIL_IN_ERROR;

const REBUILD: &str = "Build or install it again; the README says how.";
const DEFECT: &str = "This is a defect of Lanebox; please report it with the helper's log.";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        ErrorDetail::from(&error).into()
    }
}

impl From<&Error> for ErrorDetail {
    fn from(error: &Error) -> Self {
        let message = error.to_string();
        let plain = |code| ErrorDetail::new(code, message.clone());
        match error {
            Error::Request(_)
            | Error::Sequence(_)
            | Error::SecondBoot(_)
            | Error::NotRunning(_)
            | Error::NoNetwork => plain(ErrorCode::InvalidArgument),
            Error::OwnerOnly(_) => plain(ErrorCode::NotSupported),
            Error::Limit { .. } => plain(ErrorCode::LimitExceeded),
            Error::Isolation(unavailable) => {
                plain(ErrorCode::IsolationUnavailable).with_remedy(&unavailable.remedy)
            }
            Error::Artifact(error) => artifact(error),
            Error::Disk(error) => disk(error),
            Error::Flatten(failure) => flatten(failure),
            Error::Boot(failure) => boot(failure),
            Error::NoSuch { .. } => plain(ErrorCode::NotFound),
            Error::Publish { source, .. } => {
                let errno = system_error(source).map(errno_name).unwrap_or_default();
                plain(ErrorCode::InvalidArgument).with_errno(errno)
            }
            Error::Closed => plain(ErrorCode::SandboxClosed),
            Error::Ended(ended) => ended_detail(ended),
            Error::Guest(error) => guest(error),
            Error::Exiting => plain(ErrorCode::SandboxExited),
            Error::Defect(_) => plain(ErrorCode::Internal).with_remedy(DEFECT),
        }
    }
}

fn ended_detail(ended: &Ended) -> ErrorDetail {
    let message = format!("The VM has ended: {}", ended.message);
    let mut detail = ErrorDetail::new(ErrorCode::SandboxExited, message);
    detail.console_tail = end_of(&ended.console_tail).to_owned();
    detail
}

fn artifact(error: &ArtifactError) -> ErrorDetail {
    let (code, remedy) = match error.problem {
        Problem::Missing => (ErrorCode::ArtifactMissing, REBUILD),
        Problem::Open(_) => {
            (ErrorCode::ArtifactInvalid, "Make the file readable for the user who boots.")
        }
        _ => (ErrorCode::ArtifactInvalid, REBUILD),
    };
    let mut detail = ErrorDetail::new(code, error.to_string()).with_remedy(remedy);
    if let Some(errno) = error.problem.errno() {
        detail.errno = errno_name(errno);
    }
    detail
}

fn flatten(failure: &FlattenFailure) -> ErrorDetail {
    let plain = |code| ErrorDetail::new(code, failure.to_string());
    match &failure.source {
        FlattenError::ClusterSize(_) => plain(ErrorCode::InvalidArgument),
        FlattenError::Read { .. } => plain(ErrorCode::DiskInvalid),
        FlattenError::Write(error) => {
            let errno = system_error(error).map(errno_name).unwrap_or_default();
            plain(ErrorCode::FileError).with_errno(errno)
        }
        FlattenError::Thread(_) => plain(ErrorCode::Internal).with_remedy(DEFECT),
    }
}

fn disk(error: &DiskError) -> ErrorDetail {
    let message = error.to_string();
    let plain = |code| ErrorDetail::new(code, message.clone()).with_step("open-disk");
    match error {
        DiskError::File { source, .. } => match source {
            FileStoreError::Locked => plain(ErrorCode::DiskInUse)
                .with_remedy("Close the VM that uses it, or give this one a file of its own."),
            FileStoreError::NoSpace => plain(ErrorCode::BootFailed).with_errno("ENOSPC"),
            FileStoreError::Io(source) => {
                let errno = system_error(source).map(errno_name);
                plain(ErrorCode::BootFailed).with_errno(errno.unwrap_or_default())
            }
            _ => plain(ErrorCode::DiskInvalid),
        },
        DiskError::Smaller { .. } => plain(ErrorCode::InvalidArgument),
        DiskError::Overlay(OverlayError::Listed(AnswerError::OutsideDisk(_))) => {
            plain(ErrorCode::DiskInvalid)
                .with_remedy("If the disk was grown before, give it the same sizeMiB again.")
        }
        DiskError::Overlay(
            OverlayError::Size { .. }
            | OverlayError::MaxDirtyBytes { .. }
            | OverlayError::BlockSize(_),
        ) => plain(ErrorCode::InvalidArgument),
        DiskError::Read { .. } | DiskError::Overlay(_) => plain(ErrorCode::DiskInvalid),
    }
}

fn boot(failure: &BootFailure) -> ErrorDetail {
    let message = failure.to_string();
    let mut detail = match &failure.cause {
        BootCause::Engine(error) => start(error, &message),
        BootCause::Guest(GuestError::Refused(refusal)) => {
            ErrorDetail::new(ErrorCode::BootFailed, message).with_errno(&refusal.errno)
        }
        BootCause::Guest(GuestError::Protocol(_)) => {
            ErrorDetail::new(ErrorCode::GuestProtocol, message)
        }
        BootCause::Deadline(_) => ErrorDetail::new(ErrorCode::BootFailed, message)
            .with_remedy("If the machine is only slow, give the boot more time."),
        BootCause::Guest(_) | BootCause::Network(_) | BootCause::Exit(_) | BootCause::Cancelled => {
            ErrorDetail::new(ErrorCode::BootFailed, message)
        }
    };
    detail.step.clone_from(&failure.step);
    detail.console_tail = end_of(&failure.console_tail).to_owned();
    detail
}

fn start(error: &StartError, message: &str) -> ErrorDetail {
    let detail = ErrorDetail::new(ErrorCode::BootFailed, message);
    match error {
        StartError::Spec(_) => ErrorDetail::new(ErrorCode::InvalidArgument, message),
        StartError::NotEnoughMemory { .. } => {
            detail.with_errno("ENOMEM").with_remedy("Ask for less memory.")
        }
        StartError::EngineUnusable { remedy, .. } => {
            ErrorDetail::new(ErrorCode::IsolationUnavailable, message).with_remedy(remedy)
        }
        StartError::Resource { source, .. } | StartError::Spawn { source, .. } => {
            let errno = source.raw_os_error().map(Errno::from_raw).map(errno_name);
            let message = format!("{message} ({source})");
            ErrorDetail::new(ErrorCode::BootFailed, message).with_errno(errno.unwrap_or_default())
        }
        _ => detail,
    }
}

fn guest(error: &GuestError) -> ErrorDetail {
    let message = error.to_string();
    match error {
        GuestError::Refused(refusal) => {
            let detail = ErrorDetail::new(refusal.code, &refusal.message);
            detail.with_errno(&refusal.errno).with_step(&refusal.step)
        }
        GuestError::Protocol(_) => ErrorDetail::new(ErrorCode::GuestProtocol, message),
        GuestError::Deadline { .. } => ErrorDetail::new(ErrorCode::Timeout, message),
        GuestError::Lost => ErrorDetail::new(ErrorCode::SandboxExited, message),
    }
}

/// What the system said. Errors that were given more to say keep only its kind.
fn system_error(error: &io::Error) -> Option<Errno> {
    if let Some(number) = error.raw_os_error() {
        return Some(Errno::from_raw(number));
    }
    match error.kind() {
        io::ErrorKind::NotFound => Some(Errno::ENOENT),
        io::ErrorKind::AlreadyExists => Some(Errno::EEXIST),
        io::ErrorKind::PermissionDenied => Some(Errno::EACCES),
        io::ErrorKind::ReadOnlyFilesystem => Some(Errno::EROFS),
        io::ErrorKind::StorageFull => Some(Errno::ENOSPC),
        io::ErrorKind::NotADirectory => Some(Errno::ENOTDIR),
        _ => None,
    }
}

/// The name as the manual spells it, such as `ENOENT`.
fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// The end of a console tail that fits into an error.
fn end_of(tail: &str) -> &str {
    let from = tail.len().saturating_sub(CONSOLE_TAIL_IN_ERROR);
    let cut = (from..=tail.len()).find(|at| tail.is_char_boundary(*at)).unwrap_or(tail.len());
    &tail[cut..]
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;

    #[test]
    fn missing_file_has_path_errno_and_remedy() {
        let error = ArtifactError {
            what: "kernel",
            path: PathBuf::from("/no/vmlinux"),
            problem: Problem::Missing,
        };
        let detail = ErrorDetail::from(&Error::from(error));
        assert_eq!(detail.code(), ErrorCode::ArtifactMissing);
        assert_eq!(detail.errno, "ENOENT");
        assert!(detail.message.contains("/no/vmlinux") && !detail.remedy.is_empty());
    }

    #[test]
    fn boot_failure_has_its_step_and_the_end_of_the_console() {
        let failure = BootFailure {
            step: "connect-guest".to_owned(),
            cause: BootCause::Deadline(Duration::from_millis(1500)),
            console_tail: format!("{}the end", "ü".repeat(CONSOLE_TAIL_IN_ERROR)),
        };
        let detail = ErrorDetail::from(&Error::Boot(Box::new(failure)));
        assert_eq!(detail.code(), ErrorCode::BootFailed);
        assert_eq!(detail.step, "connect-guest");
        assert!(detail.message.contains("1500 ms"));
        assert!(detail.console_tail.ends_with("the end"));
        assert!(detail.console_tail.len() <= CONSOLE_TAIL_IN_ERROR);
    }

    #[test]
    fn every_error_of_an_ended_machine_fits_into_common_header_limits() {
        let failure = BootFailure {
            step: "mount-root".to_owned(),
            cause: BootCause::Cancelled,
            console_tail: "x".repeat(64 * 1024),
        };
        let status = Status::from(Error::Boot(Box::new(failure)));
        // Base64 makes four bytes of three.
        assert!(status.details().len() * 4 / 3 + 3 * status.message().len() < 16 * 1024);
    }
}
