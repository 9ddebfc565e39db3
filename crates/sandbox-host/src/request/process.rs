//! `StartProcess` and `SignalRequest`, checked.

use nix::sys::signal::Signal;
use protocol::v1;

use super::{RequestError, check_env, check_path};
use crate::limits::{MAX_ARGS, MAX_USER};

/// Linux's PID_MAX_LIMIT: the largest process number plus one.
pub(crate) const PID_LIMIT: u32 = 4 * 1024 * 1024;
/// SIGRTMAX − SIGRTMIN as programs see them (signal(7)).
const REALTIME_SIGNALS: u32 = 30;

/// Second names of signals (signal(7)).
const ALIASES: [&str; 3] = ["SIGIOT", "SIGCLD", "SIGPOLL"];
/// The limits of setrlimit(2), in lower case.
const RESOURCES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

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
    check_terminal_and_limits(start)?;
    if start.user.contains('\0') || start.user.len() > MAX_USER {
        let reason = "it must be \"name\", \"uid\", \"name:group\" or \"uid:gid\"";
        return Err(RequestError::new("start.user", &start.user, reason));
    }
    Ok(())
}

fn check_terminal_and_limits(start: &v1::StartProcess) -> Result<(), RequestError> {
    if let Some(size) = start.terminal {
        check_size("start.terminal", size)?;
        if !start.stdin {
            let reason = "it must be true when there is a terminal";
            return Err(RequestError::new("start.stdin", start.stdin, reason));
        }
    }
    for (index, limit) in start.limits.iter().enumerate() {
        let wrong = |reason| Err(RequestError::new("start.limits", limit, reason));
        if !RESOURCES.contains(&limit.name.as_str()) {
            return wrong(format!("a limit is one of {}", RESOURCES.join(", ")));
        }
        if limit.soft.unwrap_or(u64::MAX) > limit.hard.unwrap_or(u64::MAX) {
            return wrong("a soft limit is not above the hard one".to_owned());
        }
        if start.limits.iter().take(index).any(|earlier| earlier.name == limit.name) {
            return wrong("there is one limit of a name at most".to_owned());
        }
    }
    Ok(())
}

fn check_size(field: &'static str, size: v1::TerminalSize) -> Result<(), RequestError> {
    let sides = 1..=u32::from(u16::MAX);
    if sides.contains(&size.rows) && sides.contains(&size.columns) {
        return Ok(());
    }
    let reason = "a terminal has 1 to 65535 rows and columns";
    Err(RequestError::new(field, size, reason))
}

/// Checks a new size.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn resize(request: v1::ResizeRequest) -> Result<v1::ResizeRequest, RequestError> {
    check_pid(request.pid)?;
    check_size("size", request.size.unwrap_or_default())?;
    Ok(request)
}

/// Checks whom to wait for.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn wait(request: v1::WaitRequest) -> Result<v1::WaitRequest, RequestError> {
    check_pid(request.pid)?;
    Ok(request)
}

fn check_pid(pid: u32) -> Result<(), RequestError> {
    if is_pid(pid) {
        return Ok(());
    }
    let reason = "it must be the number of a process that Run has started";
    Err(RequestError::new("pid", pid, reason))
}

/// Checks a signal.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn signal(request: v1::SignalRequest) -> Result<SignalPlan, RequestError> {
    check_pid(request.pid)?;
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
    ALIASES.contains(&name) || name.parse::<Signal>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> v1::StartProcess {
        v1::StartProcess { command: "true".to_owned(), ..v1::StartProcess::default() }
    }

    fn limit(name: &str, hard: Option<u64>) -> v1::ResourceLimit {
        v1::ResourceLimit { name: name.to_owned(), soft: hard, hard }
    }

    #[test]
    fn soft_limit_above_the_hard_one_is_refused() {
        let with = |soft| {
            let limits = vec![v1::ResourceLimit { soft, ..limit("nofile", Some(8)) }];
            check_start(&v1::StartProcess { limits, ..start() })
        };
        assert_eq!(with(Some(8)), Ok(()));
        for soft in [Some(9), None] {
            assert_eq!(with(soft).unwrap_err().field, "start.limits");
        }
    }

    #[test]
    fn each_bad_field_of_a_start_is_refused_by_its_name() {
        type Change = fn(&mut v1::StartProcess);
        let cases: [(&str, Change); 12] = [
            ("start.stdin", |s| s.terminal = Some(v1::TerminalSize { rows: 1, columns: 1 })),
            ("start.terminal", |s| s.terminal = Some(v1::TerminalSize { rows: 0, columns: 1 })),
            ("start.terminal", |s| s.terminal = Some(v1::TerminalSize { rows: 1, columns: 65536 })),
            ("start.limits", |s| s.limits.push(limit("files", None))),
            ("start.limits", |s| s.limits.extend([limit("as", None), limit("as", None)])),
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
        for good in ["SIGTERM", "SIGKILL", "SIGUSR1", "SIGIOT", "SIGRTMIN+1", "SIGRTMAX-30"] {
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
            assert_eq!(wait(v1::WaitRequest { pid: bad }).unwrap_err().field, "pid");
            let size = Some(v1::TerminalSize { rows: 1, columns: 1 });
            assert_eq!(resize(v1::ResizeRequest { pid: bad, size }).unwrap_err().field, "pid");
        }
        assert_eq!(signal(request(2)).unwrap().pid, 2);
        let shapeless = v1::ResizeRequest { pid: 2, size: None };
        assert_eq!(resize(shapeless).unwrap_err().field, "size");
    }
}
