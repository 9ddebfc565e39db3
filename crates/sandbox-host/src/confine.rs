//! What this process gives up, and what it insists on, before it does anything.
//!
//! ```text
//! fd 3 checked ► other fds closed ► own process group ► dies with its parent ► no core, no new
//! privileges, not dumpable ► environment emptied
//! ```

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, getpgrp, getpid, getppid, setpgid};

use crate::sys;

const CONNECTION: i32 = 3;
/// What of the environment means something here or to an engine: where programs and temporary
/// files are, and our own variables. Everything else may be a secret of the user's.
const KEPT_VARIABLES: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LANG"];
const OUR_VARIABLES: &str = "LANEBOX_";

/// Why this process cannot run as it has to.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// There is no usable connection.
    #[error(
        "File descriptor 3 {0}; sandbox-host is started by the lanebox library, which hands it a \
         connected Unix stream socket there"
    )]
    Connection(&'static str),
    /// A system call failed.
    #[error("Cannot {what}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The parent is gone already.
    #[error("The process that started this one has ended already")]
    Orphan,
}

/// Confines the process, and returns the client's connection. Called once, from main, before there
/// is a second thread or a descriptor of our own.
///
/// # Errors
/// [`ConfineError`]; the process must then exit.
pub fn begin() -> Result<UnixStream, ConfineError> {
    let connection = connection()?;
    sys::close_from(CONNECTION + 1).map_err(system("close inherited file descriptors"))?;
    if getpgrp() != getpid() {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(system("make a process group"))?;
    }
    die_with_parent()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(system("forbid core dumps"))?;
    // Directories of the host are held open by descriptor.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system("ask for limits"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(system("raise the limit of files"))?;
    prctl::set_no_new_privs().map_err(system("give up new privileges"))?;
    prctl::set_dumpable(false).map_err(system("forbid being traced"))?;
    sys::retain_environment(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(OUR_VARIABLES.as_bytes())
            || KEPT_VARIABLES.iter().any(|kept| kept.as_bytes() == name)
    });
    Ok(connection)
}

/// SIGTERM when the parent's thread ends. A parent that ended before that was asked for is told by
/// the change of our parent; one that ended even before is told by end-of-file on the connection.
fn die_with_parent() -> Result<(), ConfineError> {
    let parent = getppid();
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(system("ask to end with the parent"))?;
    if getppid() == parent { Ok(()) } else { Err(ConfineError::Orphan) }
}

fn connection() -> Result<UnixStream, ConfineError> {
    let refuse = |what| Err(ConfineError::Connection(what));
    let look = || system("look at file descriptor 3");
    let Some(fd) = sys::inherited(CONNECTION).map_err(system("look at file descriptor 3"))? else {
        return refuse("is not open");
    };
    let kind = fstat(&fd).map_err(look())?.st_mode & SFlag::S_IFMT.bits();
    if kind != SFlag::S_IFSOCK.bits() {
        return refuse("is not a socket");
    }
    let local: SockaddrStorage = getsockname(fd.as_raw_fd()).map_err(look())?;
    let stream = getsockopt(&fd, sockopt::SockType).map_err(look())?;
    if local.family() != Some(AddressFamily::Unix) || stream != SockType::Stream {
        return refuse("is not a Unix stream socket");
    }
    match getpeername::<SockaddrStorage>(fd.as_raw_fd()) {
        Ok(_) => {}
        Err(Errno::ENOTCONN) => return refuse("is not connected"),
        Err(error) => return Err(look()(error)),
    }
    let connection = UnixStream::from(fd);
    connection.set_nonblocking(true).map_err(system("prepare file descriptor 3"))?;
    Ok(connection)
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |error| ConfineError::System { what, source: error.into() }
}
