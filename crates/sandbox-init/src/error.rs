//! What can go wrong for the host, and the one place where it becomes a gRPC status.

use nix::errno::Errno;
use protocol::{ErrorCode, ErrorDetail};
use tonic::Status;

/// An error that a call of the host ends with.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request does not make sense.
    #[error("{0}")]
    InvalidRequest(String),
    /// A process before `Configure`.
    #[error("The machine is not configured yet")]
    NotConfigured,
    /// A second `Configure`.
    #[error("The machine has been configured already")]
    AlreadyConfigured,
    /// A process after `Shutdown`.
    #[error("The machine is shutting down")]
    ShuttingDown,
    /// A boot step failed.
    #[error("Boot step {step} failed: {message}")]
    Step {
        /// Its name.
        step: &'static str,
        /// What the system said, if it was asked.
        errno: Option<Errno>,
        /// What was tried, and the system's words.
        message: String,
    },
    /// More calls of `Run` than [`crate::limits::MAX_RUNS`].
    #[error("{} processes run already, the most that is supported", crate::limits::MAX_RUNS)]
    TooManyProcesses,
    /// Arguments and environment are more than the kernel takes.
    #[error("The arguments and environment of {command:?} are more than the kernel takes")]
    ArgumentsTooLong {
        /// What was to run.
        command: String,
    },
    /// No such command.
    #[error("{message}")]
    CommandNotFound {
        /// What was looked for.
        message: String,
        /// What the system said.
        errno: Errno,
    },
    /// The command is there and does not run.
    #[error("{message}")]
    CommandNotExecutable {
        /// What was tried.
        message: String,
        /// What the system said.
        errno: Errno,
    },
    /// The process could not be set up.
    #[error("{message}")]
    NotStarted {
        /// What was tried.
        message: String,
        /// What the system said, if it was asked.
        errno: Option<Errno>,
    },
    /// Exec took longer than [`crate::limits::EXEC_DEADLINE`].
    #[error("{command:?} could not be executed within {} s", crate::limits::EXEC_DEADLINE.as_secs())]
    ExecTimeout {
        /// What was to run.
        command: String,
    },
    /// The call did not say what to run within [`crate::limits::START_DEADLINE`].
    #[error("The call did not say what to run within {} s", crate::limits::START_DEADLINE.as_secs())]
    StartTimeout,
    /// SIGKILL had no effect within [`crate::limits::KILL_DEADLINE`].
    #[error("Process {pid} has not ended {} s after SIGKILL: it waits in the kernel", crate::limits::KILL_DEADLINE.as_secs())]
    Unkillable {
        /// The process.
        pid: i32,
    },
    /// Changes could not be announced within [`crate::limits::CHANGES_DEADLINE`].
    #[error("The changes could not be announced within {} s", crate::limits::CHANGES_DEADLINE.as_secs())]
    AnnounceTimeout,
    /// The process has ended, or never was one of ours.
    #[error("No process {pid} is running")]
    NoSuchProcess {
        /// The number asked for.
        pid: u32,
    },
    /// An operation on a file failed.
    #[error("{message}")]
    File {
        /// What failed, for people.
        message: String,
        /// What the system said.
        errno: Errno,
    },
    /// More calls of `FileService` than [`crate::limits::MAX_FILE_CALLS`].
    #[error(
        "{} calls about files are under way, the most that is supported",
        crate::limits::MAX_FILE_CALLS
    )]
    TooManyFileCalls,
    /// A system call that does not fail in a sound machine.
    #[error("{what}: {}", .errno.desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// A defect.
    #[error("A task of sandbox-init ended unexpectedly")]
    Defect,
}

impl Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidRequest(_) | Self::NotConfigured | Self::AlreadyConfigured => {
                ErrorCode::InvalidArgument
            }
            Self::ShuttingDown => ErrorCode::SandboxClosed,
            Self::Step { .. } => ErrorCode::BootFailed,
            Self::TooManyProcesses | Self::TooManyFileCalls | Self::ArgumentsTooLong { .. } => {
                ErrorCode::LimitExceeded
            }
            Self::File { .. } => ErrorCode::FileError,
            Self::CommandNotFound { .. } => ErrorCode::CommandNotFound,
            Self::CommandNotExecutable { .. } => ErrorCode::CommandNotExecutable,
            Self::NotStarted { .. } => ErrorCode::ProcessNotStarted,
            Self::ExecTimeout { .. }
            | Self::StartTimeout
            | Self::AnnounceTimeout
            | Self::Unkillable { .. } => ErrorCode::Timeout,
            Self::NoSuchProcess { .. } => ErrorCode::NotFound,
            Self::System { .. } | Self::Defect => ErrorCode::Internal,
        }
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Step { errno, .. } | Self::NotStarted { errno, .. } => *errno,
            Self::ArgumentsTooLong { .. } => Some(Errno::E2BIG),
            Self::CommandNotFound { errno, .. }
            | Self::CommandNotExecutable { errno, .. }
            | Self::File { errno, .. }
            | Self::System { errno, .. } => Some(*errno),
            Self::NoSuchProcess { .. } => Some(Errno::ESRCH),
            _ => None,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut detail = ErrorDetail::new(error.code(), error.to_string());
        if let Some(errno) = error.errno() {
            // The variants of nix's Errno are named as the kernel names them.
            detail = detail.with_errno(format!("{errno:?}"));
        }
        if let Error::Step { step, .. } = error {
            detail = detail.with_step(step);
        }
        detail.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_a_failed_step_names_the_step_and_the_errno() {
        let status = Status::from(Error::Step {
            step: "mount-root",
            errno: Some(Errno::ENOENT),
            message: "/dev/vdz".into(),
        });
        let detail = protocol::status::detail(&status).unwrap();
        assert_eq!(detail.code(), ErrorCode::BootFailed);
        assert_eq!((detail.step.as_str(), detail.errno.as_str()), ("mount-root", "ENOENT"));
        assert!(detail.message.contains("/dev/vdz"));
    }
}
