//! Starting a checked command: pipes or a terminal, the child, and its registration.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::child::{self, Ends, Standard};
use super::children::{Children, Kind};
use super::output::Output;
use super::request::Command;
use super::terminal::Terminal;
use crate::error::Error;
use crate::machine::Lane;
use crate::sys::spawn::spawn;
use crate::sys::terminal::Size;
use crate::sys::wait::Exit;
use crate::sys::watch::watch;

/// A child that becomes the command now.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its number, and that of its group and session once it has made them.
    pub(crate) pid: Pid,
    /// Our end of its standard input, when it has one.
    pub(crate) stdin: Option<AsyncFd<OwnedFd>>,
    /// Its standard output, or what comes from its terminal.
    pub(crate) stdout: Output,
    /// Its standard error.
    pub(crate) stderr: Output,
    /// Its terminal, when it has one.
    pub(crate) terminal: Option<Terminal>,
    /// Where it says that it could not.
    pub(crate) report: AsyncFd<OwnedFd>,
    /// Its end.
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// Our ends of what the child gets.
struct Ours {
    stdin: Option<AsyncFd<OwnedFd>>,
    stdout: Output,
    stderr: Output,
}

/// Starts `command`. Must not be suspended between the fork and the registration: it is no `async`.
pub(crate) fn start(command: &Command, lane: &Lane, children: &Children) -> Result<Started, Error> {
    let terminal = command.terminal.map(|size| terminal(lane, size)).transpose()?;
    let (ours, standard) = match &terminal {
        Some(terminal) => connect(terminal, command)?,
        None => pipes(command)?,
    };
    let (report, report_child) = pipe("exec")?;
    let report = watched(report, Interest::READABLE)?;
    let ends = Ends { standard, report: report_child };
    let body = || child::run(command, &ends);
    let spawned = match &lane.workload {
        Some(workload) => workload.with_directory(|cgroup| spawn(Some(cgroup), body)),
        None => spawn(None, body),
    };
    let pid = spawned.map_err(|errno| not_started("Making a process", errno))?;
    let exit = children.register(pid, Kind::Process);
    drop(ends);
    let Ours { stdin, stdout, stderr } = ours;
    Ok(Started { pid, stdin, stdout, stderr, terminal, report, exit })
}

fn terminal(lane: &Lane, size: Size) -> Result<Terminal, Error> {
    let made = lane.terminals.as_ref().map_or(Err(Errno::ENODEV), |all| all.make(size));
    made.map_err(|errno| not_started("Making a terminal", errno))
}

fn connect<'a>(terminal: &'a Terminal, command: &Command) -> Result<(Ours, Standard<'a>), Error> {
    let again = || {
        let copy = terminal.master.try_clone();
        copy.map_err(|_| not_started("Preparing a terminal", Errno::EMFILE))
    };
    let stdin = Some(watched(again()?, Interest::WRITABLE)?);
    let stdout = Output::terminal(watched(again()?, Interest::READABLE)?, command.max_output);
    let ours = Ours { stdin, stdout, stderr: Output::none() };
    Ok((ours, Standard::Terminal(terminal.slave())))
}

fn pipes(command: &Command) -> Result<(Ours, Standard<'static>), Error> {
    let (stdin, stdin_child) = match command.stdin {
        true => {
            let (read, write) = pipe("stdin")?;
            (Some(watched(write, Interest::WRITABLE)?), Some(read))
        }
        false => (None, None),
    };
    let output = |what| {
        let (read, write) = pipe(what)?;
        let read = watched(read, Interest::READABLE)?;
        Ok::<_, Error>((Output::pipe(read, command.max_output), write))
    };
    let (stdout, stdout_child) = output("stdout")?;
    let (stderr, stderr_child) = output("stderr")?;
    let standard =
        Standard::Pipes { stdin: stdin_child, stdout: stdout_child, stderr: stderr_child };
    Ok((Ours { stdin, stdout, stderr }, standard))
}

fn pipe(what: &str) -> Result<(OwnedFd, OwnedFd), Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| not_started(&format!("Making the {what} pipe"), errno))
}

/// Our end never waits; the child's end is a file description of its own and does.
fn watched(end: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, Error> {
    fcntl(end.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| not_started("Preparing a pipe", errno))?;
    watch(end, interest).map_err(|errno| not_started("Preparing a pipe", errno))
}

fn not_started(what: &str, errno: Errno) -> Error {
    Error::NotStarted { message: format!("{what}: {}", errno.desc()), errno: Some(errno) }
}
