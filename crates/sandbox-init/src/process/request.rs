//! What the host asks to run, checked once into a type that can be executed as it is.

use std::ffi::CString;
use std::num::NonZeroU64;
use std::time::Duration;

use protocol::v1::{RunRequest, StartProcess, TerminalSize, run_request};

use super::accounts::UserSpec;
use super::resources::Limit;
use crate::error::Error;
use crate::machine::{Environment, Lane};
use crate::sys::terminal::Size;

/// A process to start.
#[derive(Debug)]
pub(crate) struct Command {
    /// What to run, then its arguments. The first is a path or a name to look up.
    pub(crate) arguments: Vec<CString>,
    /// The whole environment but for HOME, which the child knows.
    pub(crate) env: Environment,
    /// Working directory, absolute.
    pub(crate) cwd: CString,
    /// Who it runs as.
    pub(crate) user: UserSpec,
    /// Input will follow.
    pub(crate) stdin: bool,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// Bytes of stdout, and of stderr, that are sent.
    pub(crate) max_output: Option<NonZeroU64>,
    /// It gets a terminal of this size instead of pipes.
    pub(crate) terminal: Option<Size>,
    /// Limits that differ from the guest's own.
    pub(crate) limits: Vec<Limit>,
    /// Its programs give no privileges.
    pub(crate) no_new_privileges: bool,
}

impl Command {
    /// The command as it was asked for, for messages.
    pub(crate) fn name(&self) -> String {
        self.arguments.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Checks a first request, which has to be `start`.
    pub(crate) fn from_first(first: Option<RunRequest>, lane: &Lane) -> Result<Self, Error> {
        match first.and_then(|first| first.request) {
            Some(run_request::Request::Start(start)) => Self::new(start, lane),
            _ => Err(Error::InvalidRequest("The first request of Run must be start".into())),
        }
    }

    fn new(start: StartProcess, lane: &Lane) -> Result<Self, Error> {
        if start.command.is_empty() {
            return Err(Error::InvalidRequest("command is empty".into()));
        }
        let mut arguments = vec![c_string("command", start.command)?];
        for argument in start.args {
            arguments.push(c_string("args", argument)?);
        }
        let mut env = lane.env.clone();
        for (name, value) in start.env {
            let (name, value) = variable(name, value)?;
            env.insert(name, value);
        }
        let cwd = if start.cwd.is_empty() { lane.cwd.clone() } else { directory(start.cwd)? };
        let user = UserSpec::parse(&start.user)
            .ok_or_else(|| Error::InvalidRequest(format!("user {:?} is malformed", start.user)))?;
        let terminal = start.terminal.map(size).transpose()?;
        if terminal.is_some() && !start.stdin {
            return Err(Error::InvalidRequest("a terminal needs stdin".into()));
        }
        let limits = start.limits.iter().map(Limit::new).collect::<Result<_, _>>()?;
        Ok(Self {
            arguments,
            env,
            cwd,
            user,
            stdin: start.stdin,
            timeout: (start.timeout_ms > 0).then(|| Duration::from_millis(start.timeout_ms)),
            max_output: NonZeroU64::new(start.max_output_bytes),
            terminal,
            limits,
            no_new_privileges: start.no_new_privileges,
        })
    }
}

/// The size of a terminal.
pub(crate) fn size(size: TerminalSize) -> Result<Size, Error> {
    match (u16::try_from(size.rows), u16::try_from(size.columns)) {
        (Ok(rows @ 1..), Ok(columns @ 1..)) => Ok(Size { rows, columns }),
        _ => Err(Error::InvalidRequest(format!(
            "a terminal cannot have {} rows of {} columns",
            size.rows, size.columns
        ))),
    }
}

/// An absolute path, as a C string.
pub(crate) fn directory(path: String) -> Result<CString, Error> {
    if !path.starts_with('/') {
        return Err(Error::InvalidRequest(format!("cwd {path:?} is not an absolute path")));
    }
    c_string("cwd", path)
}

/// A variable's name and value, as C strings.
pub(crate) fn variable(name: String, value: String) -> Result<(CString, CString), Error> {
    if name.is_empty() || name.contains('=') {
        return Err(Error::InvalidRequest(format!("env has the malformed name {name:?}")));
    }
    Ok((c_string("env", name)?, c_string("env", value)?))
}

fn c_string(field: &str, text: String) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::InvalidRequest(format!("{field} holds a NUL")))
}

#[cfg(test)]
mod tests {
    use protocol::v1::ResourceLimit;

    use super::*;

    fn check(start: StartProcess) -> Result<Command, Error> {
        let env = Environment::from([(c"A".into(), c"lane".into()), (c"B".into(), c"lane".into())]);
        let lane = Lane { cwd: c"/work".into(), env, workload: None, terminals: None };
        let request = RunRequest { request: Some(run_request::Request::Start(start)) };
        Command::from_first(Some(request), &lane)
    }

    fn start() -> StartProcess {
        StartProcess { command: "true".into(), ..StartProcess::default() }
    }

    #[test]
    fn environment_of_the_process_goes_over_that_of_the_lane() {
        let env = [("B".to_owned(), "own".to_owned()), ("C".to_owned(), String::new())].into();
        let command = check(StartProcess { env, ..start() }).unwrap();
        let expected: Environment = [(c"A", c"lane"), (c"B", c"own"), (c"C", c"")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(command.env, expected);
    }

    #[test]
    fn absent_options_mean_the_lane_and_no_limit() {
        let command = check(start()).unwrap();
        assert_eq!(command.cwd.as_c_str(), c"/work");
        assert_eq!((command.timeout, command.max_output, command.stdin), (None, None, false));
    }

    #[test]
    fn what_exec_could_not_express_is_refused() {
        let variable = |name: &str, value: &str| StartProcess {
            env: [(name.to_owned(), value.to_owned())].into(),
            ..start()
        };
        for wrong in [
            StartProcess { command: String::new(), ..start() },
            StartProcess { command: "a\0b".into(), ..start() },
            StartProcess { args: vec!["\0".into()], ..start() },
            StartProcess { cwd: "relative".into(), ..start() },
            StartProcess { cwd: "/a\0".into(), ..start() },
            StartProcess { user: ":".into(), ..start() },
            variable("", "x"),
            variable("A=B", "x"),
            variable("A\0", "x"),
            variable("A", "\0"),
            StartProcess {
                terminal: Some(TerminalSize { rows: 0, columns: 1 }),
                stdin: true,
                ..start()
            },
            StartProcess { terminal: Some(TerminalSize { rows: 1, columns: 1 }), ..start() },
            StartProcess { limits: vec![ResourceLimit::default()], ..start() },
        ] {
            assert!(matches!(check(wrong.clone()), Err(Error::InvalidRequest(_))), "{wrong:?}");
        }
    }

    #[test]
    fn first_request_must_be_start() {
        let lane =
            Lane { cwd: c"/".into(), env: Environment::new(), workload: None, terminals: None };
        let input = RunRequest { request: Some(run_request::Request::Stdin("x".into())) };
        for wrong in [None, Some(RunRequest { request: None }), Some(input)] {
            assert!(matches!(Command::from_first(wrong, &lane), Err(Error::InvalidRequest(_))));
        }
    }
}
