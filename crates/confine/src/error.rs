//! Why a process cannot be confined.

use std::io;
use std::path::PathBuf;

/// Why a process cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("Cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A granted path is there and cannot be looked at.
    #[error("Cannot open the granted path {path}")]
    Path {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Landlock is there and refuses.
    #[error("Cannot restrict the files")]
    Landlock(#[from] landlock::RulesetError),
    /// The filter of system calls is malformed.
    #[error("Cannot make the filter of system calls")]
    Filter(#[from] seccompiler::BackendError),
    /// The filter of system calls is refused.
    #[error("Cannot restrict the system calls")]
    Seccomp(#[from] seccompiler::Error),
    /// The capabilities cannot be changed.
    #[error("Cannot drop capabilities: {0}")]
    Capabilities(caps::errors::CapsError),
    /// The control group is none, or cannot be joined.
    #[error("The control group {path} {problem}")]
    ControlGroup {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// For `map_err`.
pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::System { what, source: error.into() }
}
