//! Why a child could not become its command: the message on the pipe that exec closes.
//!
//! ```text
//! stage (1 byte) │ errno (4 bytes, little endian, 0 for none) │ text (UTF-8, at most 1024 bytes)
//! ```
//! It fits in one atomic write of pipe(7); no byte at all means that exec succeeded.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

use super::request::Command;
use crate::error::Error;

const MAX_TEXT: usize = 1024;
const HEADER: usize = 5;

/// What the child was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Session, descriptors, user, directory.
    Setup,
    /// Exec: there is no such command.
    NotFound,
    /// Exec: the command is there and does not run.
    NotExecutable,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    pub(crate) errno: Option<Errno>,
    pub(crate) text: String,
}

impl Failure {
    /// A failed system call of the set-up.
    pub(crate) fn setup(what: &str, errno: Errno) -> Self {
        let text = format!("{what}: {}", errno.desc());
        Self { stage: Stage::Setup, errno: Some(errno), text }
    }

    /// The message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let stage = match self.stage {
            Stage::Setup => 0,
            Stage::NotFound => 1,
            Stage::NotExecutable => 2,
        };
        let errno = self.errno.map_or(0, |errno| errno as i32);
        let mut message = vec![stage];
        message.extend(errno.to_le_bytes());
        message.extend(self.text.bytes().take(MAX_TEXT));
        message
    }

    fn decode(message: &[u8]) -> Self {
        let defect = || Self { stage: Stage::Setup, errno: None, text: "Malformed report".into() };
        let Some((header, text)) = message.split_first_chunk::<HEADER>() else { return defect() };
        let [stage, errno @ ..] = *header;
        let stage = match stage {
            0 => Stage::Setup,
            1 => Stage::NotFound,
            2 => Stage::NotExecutable,
            _ => return defect(),
        };
        let errno = match i32::from_le_bytes(errno) {
            0 => None,
            raw => Some(Errno::from_raw(raw)),
        };
        Self { stage, errno, text: String::from_utf8_lossy(text).into_owned() }
    }

    /// The error of the call.
    pub(crate) fn into_error(self, command: &Command) -> Error {
        let message = self.text;
        match (self.stage, self.errno) {
            (Stage::NotExecutable, Some(Errno::E2BIG)) => {
                Error::ArgumentsTooLong { command: command.name() }
            }
            // What the machine lacks at the moment says nothing about the command.
            (
                Stage::NotExecutable,
                Some(Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE),
            )
            | (Stage::Setup, _) => Error::NotStarted { message, errno: self.errno },
            (Stage::NotFound, errno) => {
                Error::CommandNotFound { message, errno: errno.unwrap_or(Errno::ENOENT) }
            }
            (Stage::NotExecutable, errno) => {
                Error::CommandNotExecutable { message, errno: errno.unwrap_or(Errno::EACCES) }
            }
        }
    }
}

/// Waits until exec has succeeded (`None`) or the child has said why it has not.
pub(crate) async fn outcome(report: &AsyncFd<OwnedFd>) -> Option<Failure> {
    let mut message = [0; HEADER + MAX_TEXT];
    loop {
        let mut ready = match report.readable().await {
            Ok(ready) => ready,
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                return Some(Failure::setup("Waiting for exec", errno));
            }
        };
        match nix::unistd::read(report, &mut message) {
            Ok(0) => return None,
            Ok(count) => return Some(Failure::decode(message.get(..count).unwrap_or_default())),
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Some(Failure::setup("Waiting for exec", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_survives_its_encoding() {
        for stage in [Stage::Setup, Stage::NotFound, Stage::NotExecutable] {
            for errno in [None, Some(Errno::ENOENT)] {
                let sent = Failure { stage, errno, text: "Grüße".into() };
                assert_eq!(Failure::decode(&sent.encode()), sent);
            }
        }
    }

    #[test]
    fn long_text_is_cut_to_an_atomic_write() {
        let failure = Failure { stage: Stage::Setup, errno: None, text: "x".repeat(9000) };
        assert_eq!(failure.encode().len(), HEADER + MAX_TEXT);
    }

    #[test]
    fn malformed_message_is_a_failure_without_a_command_code() {
        for message in [&b""[..], b"\x01", b"\x09\0\0\0\0text"] {
            assert_eq!(Failure::decode(message).stage, Stage::Setup);
        }
    }
}
