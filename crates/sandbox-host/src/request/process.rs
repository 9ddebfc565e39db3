//! `StartProcess` and `SignalRequest`, checked.

use nix::sys::signal::Signal;
use protocol::v1;

use super::{RequestError, check_env, check_path};
use crate::limits::{MAX_ARGS, MAX_USER};

/// Linux's PID_MAX_LIMIT: the largest process number plus one.
pub(crate) const PID_LIMIT: u32 = 4 * 1024 * 1024;
/// SIGRTMAX − SIGRTMIN as programs see them (signal(7)).
const REALTIME_SIGNALS: u32 = 30;

/// A signal to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalPlan {
    /// The process, and number of its group.
    pub pid: u32,
    /// Its name.
    pub signal: String,
}

/// Checks what is to be run.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn check_start(start: &v1::StartProcess) -> Result<(), RequestError> {
    if start.command.is_empty() || start.command.contains('\0') {
        let reason = "it must be a name or a path, without NUL";
        return Err(RequestError::new("start.command", &start.command, reason));
    }
    if start.args.len() > MAX_ARGS {
        let reason = format!("there can be {MAX_ARGS} arguments");
        return Err(RequestError::new("start.args", start.args.len(), reason));
    }
    if let Some(arg) = start.args.iter().find(|arg| arg.contains('\0')) {
        return Err(RequestError::new("start.args", arg, "an argument holds no NUL"));
    }
    check_env("start.env", &start.env)?;
    if !start.cwd.is_empty() {
        check_path("start.cwd", &start.cwd)?;
    }
    if start.user.contains('\0') || start.user.len() > MAX_USER {
        let reason = "it must be \"name\", \"uid\", \"name:group\" or \"uid:gid\"";
        return Err(RequestError::new("start.user", &start.user, reason));
    }
    Ok(())
}

/// Checks a signal.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn signal(request: v1::SignalRequest) -> Result<SignalPlan, RequestError> {
    if !is_pid(request.pid) {
        let reason = "it must be the number of a process that Run has started";
        return Err(RequestError::new("pid", request.pid, reason));
    }
    if !is_signal_name(&request.signal) {
        let reason = "it must be a Linux signal name such as \"SIGTERM\" or \"SIGRTMIN+1\"";
        return Err(RequestError::new("signal", request.signal, reason));
    }
    Ok(SignalPlan { pid: request.pid, signal: request.signal })
}

/// A process number that Linux can give to a process other than init.
pub(crate) fn is_pid(pid: u32) -> bool {
    (2..PID_LIMIT).contains(&pid)
}

/// A name of signal(7), with its prefix.
pub(crate) fn is_signal_name(name: &str) -> bool {
    let offset = |text: &str, sign: char| {
        let digits = text.strip_prefix(sign)?;
        let plain = !digits.is_empty() && !digits.starts_with('0');
        let number: u32 = digits.parse().ok().filter(|_| plain)?;
        (number <= REALTIME_SIGNALS).then_some(number)
    };
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        return rest.is_empty() || offset(rest, '+').is_some();
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        return rest.is_empty() || offset(rest, '-').is_some();
    }
    name.parse::<Signal>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> v1::StartProcess {
        v1::StartProcess { command: "true".to_owned(), ..v1::StartProcess::default() }
    }

    #[test]
    fn each_bad_field_of_a_start_is_refused_by_its_name() {
        type Change = fn(&mut v1::StartProcess);
        let cases: [(&str, Change); 7] = [
            ("start.command", |s| s.command.clear()),
            ("start.command", |s| s.command.push('\0')),
            ("start.args", |s| s.args.push("a\0b".to_owned())),
            ("start.env", |s| drop(s.env.insert("A=B".to_owned(), String::new()))),
            ("start.cwd", |s| s.cwd = "relative".to_owned()),
            ("start.user", |s| s.user = "u\0".to_owned()),
            ("start.user", |s| s.user = "u".repeat(257)),
        ];
        assert_eq!(check_start(&start()), Ok(()));
        for (field, change) in cases {
            let mut bad = start();
            change(&mut bad);
            assert_eq!(check_start(&bad).expect_err(field).field, field);
        }
    }

    #[test]
    fn signal_names_are_those_of_linux() {
        for good in ["SIGTERM", "SIGKILL", "SIGUSR1", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMAX-30"] {
            assert!(is_signal_name(good), "{good}");
        }
        for bad in [
            "",
            "TERM",
            "sigterm",
            "SIG",
            "SIGRTMIN+",
            "SIGRTMIN+0",
            "SIGRTMIN+31",
            "SIGRTMAX+1",
            "SIGNAL",
            "15",
            "SIGRTMIN+01",
        ] {
            assert!(!is_signal_name(bad), "{bad}");
        }
    }

    #[test]
    fn init_and_impossible_processes_are_not_signalled() {
        let request = |pid| v1::SignalRequest { pid, signal: "SIGTERM".to_owned() };
        for bad in [0, 1, PID_LIMIT, u32::MAX] {
            assert_eq!(signal(request(bad)).unwrap_err().field, "pid");
        }
        assert_eq!(signal(request(2)).unwrap().pid, 2);
    }
}
