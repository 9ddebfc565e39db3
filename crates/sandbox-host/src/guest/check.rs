//! The forms that the guest's words and numbers must have.

use std::num::NonZeroU32;

use protocol::v1::ProcessExited;

use crate::limits::GUEST_SENTENCE_BYTES;
use crate::request::{is_pid, is_signal_name};

const STEP_BYTES: usize = 40;
const ERRNO_BYTES: usize = 24;
/// `utsname.release` without its NUL (uname(2)).
const RELEASE_BYTES: usize = 64;
const LAST_SIGNAL: u32 = 64;

/// A boot step: lower case letters and dashes, 1 to 40 bytes (lanebox/guest/v1/guest.proto).
pub(super) fn is_step(name: &str) -> bool {
    (1..=STEP_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// A Linux error name such as `ENOENT`.
pub(super) fn is_errno(name: &str) -> bool {
    name.starts_with('E')
        && (2..=ERRNO_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// What `uname -r` prints.
pub(super) fn is_release(text: &str) -> bool {
    (1..=RELEASE_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A sentence for people: one line, bounded, nothing that moves a terminal's cursor.
pub(super) fn sentence(text: &str) -> String {
    let mut cut = text.len().min(GUEST_SENTENCE_BYTES);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let printable = |char: char| match char {
        '\n' | '\t' | '\r' => Some(' '),
        char if char.is_control() => None,
        char => Some(char),
    };
    text[..cut].chars().filter_map(printable).collect()
}

/// A process that Run can have started.
pub(super) fn pid(pid: u32) -> Result<NonZeroU32, String> {
    NonZeroU32::new(pid).filter(|_| is_pid(pid)).ok_or_else(|| format!("{pid} is no process"))
}

/// The end of a process: an exit status or a signal, never both, never neither.
pub(super) fn exited(exited: &ProcessExited) -> Result<(), String> {
    match (exited.exit_code, exited.signal, exited.signal_name.as_str()) {
        (Some(code), 0, "") if code <= 255 => Ok(()),
        (None, 1..=LAST_SIGNAL, name) if is_signal_name(name) => Ok(()),
        (code, signal, name) => {
            let name = sentence(name);
            Err(format!("exit code {code:?} with signal {signal} {name:?} is no end of a process"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_errno_names_and_releases_have_their_forms() {
        assert!(is_step("mount-root"));
        for bad in ["", "Mount", "mount root", "mount_root", &"a".repeat(41), "é"] {
            assert!(!is_step(bad), "{bad}");
        }
        assert!(is_errno("ENOENT") && is_errno("E2BIG"));
        for bad in ["", "E", "enoent", "ENO ENT", "NOENT", &"E".repeat(25)] {
            assert!(!is_errno(bad), "{bad}");
        }
        assert!(is_release("6.1.170-lanebox"));
        for bad in ["", "6.1 x", "6.1\x1b", &"6".repeat(65)] {
            assert!(!is_release(bad), "{bad}");
        }
    }

    #[test]
    fn sentence_is_cut_at_a_character() {
        let text = format!("{}ü", "a".repeat(GUEST_SENTENCE_BYTES - 1));
        assert_eq!(sentence(&text).len(), GUEST_SENTENCE_BYTES - 1);
    }

    #[test]
    fn process_ends_by_code_or_by_signal() {
        let end = |code, signal, name: &str| ProcessExited {
            exit_code: code,
            signal,
            signal_name: name.to_owned(),
            ..ProcessExited::default()
        };
        for good in [end(Some(0), 0, ""), end(Some(255), 0, ""), end(None, 9, "SIGKILL")] {
            assert_eq!(exited(&good), Ok(()));
        }
        for bad in [
            end(None, 0, ""),
            end(Some(256), 0, ""),
            end(Some(0), 9, "SIGKILL"),
            end(None, 9, ""),
            end(None, 65, "SIGKILL"),
            end(None, 9, "\x1b[2J"),
            end(Some(0), 0, "SIGKILL"),
        ] {
            assert!(exited(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn impossible_processes_are_refused() {
        assert_eq!(pid(7).map(NonZeroU32::get), Ok(7));
        for bad in [0, 1, 4 * 1024 * 1024, u32::MAX] {
            assert!(pid(bad).is_err(), "{bad}");
        }
    }
}
