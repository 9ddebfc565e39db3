//! Starting a checked command: pipes, the child, and its registration.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::child::{self, Ends};
use super::children::{Children, Kind};
use super::request::Command;
use crate::error::Error;
use crate::machine::Lane;
use crate::sys::spawn::spawn;
use crate::sys::wait::Exit;
use crate::sys::watch::watch;

/// A child that becomes the command now.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its number, and that of its group and session once it has made them.
    pub(crate) pid: Pid,
    /// Our end of its standard input, when it has one.
    pub(crate) stdin: Option<AsyncFd<OwnedFd>>,
    /// Our end of its standard output.
    pub(crate) stdout: AsyncFd<OwnedFd>,
    /// Our end of its standard error.
    pub(crate) stderr: AsyncFd<OwnedFd>,
    /// Where it says that it could not.
    pub(crate) report: AsyncFd<OwnedFd>,
    /// Its end.
    pub(crate) exit: oneshot::Receiver<Exit>,
}

/// Starts `command`. Must not be suspended between the fork and the registration: it is no `async`.
pub(crate) fn start(command: &Command, lane: &Lane, children: &Children) -> Result<Started, Error> {
    let (stdin, stdin_child) = match command.stdin {
        true => {
            let (read, write) = pipe("stdin")?;
            (Some(ours(write, Interest::WRITABLE)?), Some(read))
        }
        false => (None, None),
    };
    let (stdout, stdout_child) = pipe("stdout")?;
    let (stderr, stderr_child) = pipe("stderr")?;
    let (report, report_child) = pipe("exec")?;
    let (stdout, stderr) = (ours(stdout, Interest::READABLE)?, ours(stderr, Interest::READABLE)?);
    let report = ours(report, Interest::READABLE)?;
    let ends = Ends {
        stdin: stdin_child,
        stdout: stdout_child,
        stderr: stderr_child,
        report: report_child,
    };
    let body = || child::run(command, &ends);
    let spawned = match &lane.workload {
        Some(workload) => workload.with_directory(|cgroup| spawn(Some(cgroup), body)),
        None => spawn(None, body),
    };
    let pid = spawned.map_err(|errno| not_started("Making a process", errno))?;
    let exit = children.register(pid, Kind::Process);
    Ok(Started { pid, stdin, stdout, stderr, report, exit })
}

fn pipe(what: &str) -> Result<(OwnedFd, OwnedFd), Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| not_started(&format!("Making the {what} pipe"), errno))
}

/// Our end never waits; the child's end is a file description of its own and does.
fn ours(end: OwnedFd, interest: Interest) -> Result<AsyncFd<OwnedFd>, Error> {
    fcntl(end.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|errno| not_started("Preparing a pipe", errno))?;
    watch(end, interest).map_err(|errno| not_started("Preparing a pipe", errno))
}

fn not_started(what: &str, errno: Errno) -> Error {
    Error::NotStarted { message: format!("{what}: {}", errno.desc()), errno: Some(errno) }
}
