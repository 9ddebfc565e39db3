//! How a VM ended.

use engine::{Exit, ExitReason};
use nix::sys::signal::Signal;

/// Why a VM ended (lanebox/v1/sandbox.proto, `ExitReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Shutdown was called and the guest stopped.
    Closed,
    /// Shutdown was called, or the owner left, and the engine was killed.
    Killed,
    /// The guest stopped or restarted by itself.
    GuestStopped,
    /// The guest's kernel panicked, by what its console or the engine says. A hint: the guest can
    /// print what it likes.
    GuestPanicked,
    /// The engine's process ended by a signal or with a failure.
    EngineFailed,
    /// The VM did not come up.
    BootFailed,
}

/// The end of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: EndReason,
    /// One sentence for people.
    pub message: String,
    /// Exit status of the engine's process, when it exited by itself.
    pub engine_exit_code: Option<u32>,
    /// Signal that ended the engine's process, or empty.
    pub engine_signal: String,
    /// The last lines of the console.
    pub console_tail: String,
}

impl Ended {
    /// An end that has no engine's exit to tell of, or whose exit tells nothing more.
    pub(super) fn new(reason: EndReason, message: impl Into<String>, exit: Option<&Exit>) -> Self {
        Self {
            reason,
            message: message.into(),
            engine_exit_code: exit.and_then(|exit| u32::try_from(exit.code?).ok()),
            engine_signal: exit.and_then(|exit| exit.signal).map(signal_name).unwrap_or_default(),
            console_tail: String::new(),
        }
    }

    /// An end that nobody here has asked for. `panicked`: the console shows the panic banner.
    pub(super) fn unasked(exit: &Exit, panicked: bool) -> Self {
        let words = exit.last_words.trim();
        let said = if words.is_empty() { String::new() } else { format!(": {words}") };
        let (reason, message) = match exit.reason {
            ExitReason::GuestPanic => {
                (EndReason::GuestPanicked, "The guest's kernel panicked".to_owned())
            }
            ExitReason::GuestReset | ExitReason::GuestShutdown if panicked => {
                (EndReason::GuestPanicked, "The guest's kernel panicked".to_owned())
            }
            ExitReason::GuestReset => {
                (EndReason::GuestStopped, "The guest restarted by itself".to_owned())
            }
            ExitReason::GuestShutdown => {
                (EndReason::GuestStopped, "The guest stopped by itself".to_owned())
            }
            ExitReason::Killed | ExitReason::Failed => {
                let how = match (exit.code, exit.signal) {
                    (_, Some(signal)) => format!("was ended by {}", signal_name(signal)),
                    (Some(code), None) => format!("exited with status {code}"),
                    (None, None) => "ended".to_owned(),
                };
                (EndReason::EngineFailed, format!("The engine {how}{said}"))
            }
        };
        Self::new(reason, message, Some(exit))
    }
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(reason: ExitReason, code: Option<i32>, signal: Option<i32>) -> Exit {
        Exit { code, signal, reason, last_words: " out of memory \n".to_owned() }
    }

    #[test]
    fn reset_is_a_stop_unless_the_console_shows_a_panic() {
        let reset = exit(ExitReason::GuestReset, Some(0), None);
        assert_eq!(Ended::unasked(&reset, false).reason, EndReason::GuestStopped);
        let panicked = Ended::unasked(&reset, true);
        assert_eq!(panicked.reason, EndReason::GuestPanicked);
        assert_eq!(panicked.engine_exit_code, Some(0));
    }

    #[test]
    fn engine_that_dies_by_a_signal_has_failed_whatever_the_console_says() {
        let ended = Ended::unasked(&exit(ExitReason::Failed, None, Some(9)), true);
        assert_eq!(ended.reason, EndReason::EngineFailed);
        assert_eq!(ended.engine_signal, "SIGKILL");
        assert_eq!(ended.message, "The engine was ended by SIGKILL: out of memory");
        assert_eq!(ended.engine_exit_code, None);
    }

    #[test]
    fn engine_that_fails_says_its_status() {
        let ended = Ended::unasked(&exit(ExitReason::Failed, Some(1), None), false);
        assert_eq!(ended.engine_exit_code, Some(1));
        assert!(ended.message.contains("status 1"));
    }
}
