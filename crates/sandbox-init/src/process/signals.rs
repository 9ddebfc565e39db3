//! Signal names (signal(7)), both ways. Numbers are those of Linux on x86-64 and arm64.

use crate::sys::signal::{FIRST, LAST};

const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
const ALIASES: [(&str, i32); 3] = [("SIGIOT", 6), ("SIGCLD", 17), ("SIGPOLL", 29)];
/// SIGRTMIN as programs see it: the C library keeps 32 and 33.
const REALTIME_FIRST: i32 = 34;

/// The number of a name such as "SIGTERM", "SIGRTMIN+1" or "SIGRTMAX-1".
pub(crate) fn number(name: &str) -> Option<i32> {
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        return realtime(rest, '+').map(|offset| REALTIME_FIRST + offset);
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        return realtime(rest, '-').map(|offset| LAST - offset);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(*number);
    }
    let index = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(index).ok().map(|index| FIRST + index)
}

/// The offset in "", "+3" or "-3".
fn realtime(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|offset| *offset <= LAST - REALTIME_FIRST)
}

/// The name of a number.
pub(crate) fn name(number: i32) -> String {
    let known = usize::try_from(number - FIRST).ok().and_then(|index| NAMES.get(index));
    match known {
        Some(name) => (*name).to_owned(),
        None if number == REALTIME_FIRST => "SIGRTMIN".to_owned(),
        None if number > REALTIME_FIRST => format!("SIGRTMIN+{}", number - REALTIME_FIRST),
        // 32 and 33 have no name; strsignal(3) says it so.
        None => format!("SIG{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_the_kernel() {
        for signal in nix::sys::signal::Signal::iterator() {
            assert_eq!(number(signal.as_str()), Some(signal as i32), "{signal}");
            assert_eq!(name(signal as i32), signal.as_str());
        }
    }

    #[test]
    fn every_sendable_number_survives_the_way_through_its_name() {
        for value in (FIRST..=31).chain(REALTIME_FIRST..=LAST) {
            assert_eq!(number(&name(value)), Some(value));
        }
    }

    #[test]
    fn real_time_signals_count_from_both_ends() {
        assert_eq!(number("SIGRTMIN"), Some(34));
        assert_eq!(number("SIGRTMIN+1"), Some(35));
        assert_eq!(number("SIGRTMAX"), Some(64));
        assert_eq!(number("SIGRTMAX-2"), Some(62));
    }

    #[test]
    fn what_is_no_signal_name_has_no_number() {
        for wrong in [
            "",
            "TERM",
            "sigterm",
            "SIGTERM ",
            "15",
            "SIG15",
            "SIGRTMIN+31",
            "SIGRTMIN-1",
            "SIGRTMIN+",
            "SIGRTMIN++1",
            "SIGRTMIN+99999999999",
            "SIGRTMAX+1",
            "SIGNONE",
        ] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
