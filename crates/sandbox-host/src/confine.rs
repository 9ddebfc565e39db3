//! What this process gives up, and what it insists on, before it does anything.
//!
//! ```text
//! fd 3 checked ► other fds closed ► own session ► no core, no new privileges ► walls of the crate
//! `confine` ► not dumpable ► dies with its parent ► environment emptied ► launcher ► system calls
//! ```

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use ::confine::{Access, Grant, Jail, Plan, Report, enter, seal};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Pid, getpgrp, getpid, getppid, getsid, setpgid, setsid};

use crate::args::{Args, Confinement};
use crate::granted::Granted;
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
    /// A wall cannot be set up.
    #[error("The process cannot be confined")]
    Walls(#[from] ::confine::Error),
    /// The parent is gone already.
    #[error("The process that started this one has ended already")]
    Orphan,
}

/// The files of the system that the network needs: whom to ask for names, and whom to believe.
const NETWORK_FILES: [&str; 22] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/mnt/wsl",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/pki",
    "/usr/share/ssl",
    "/var/lib/ca-certificates",
];

/// A process that has begun.
#[derive(Debug)]
pub struct Begun {
    /// The client.
    pub connection: UnixStream,
    /// What may be used.
    pub granted: Granted,
}

/// Confines the process, and returns the client's connection. Called once, from main, before there
/// is a second thread or a descriptor of our own.
///
/// # Errors
/// [`ConfineError`]; the process must then exit.
pub fn begin(args: &Args) -> Result<Begun, ConfineError> {
    let connection = connection()?;
    sys::close_from(CONNECTION + 1).map_err(system("close inherited file descriptors"))?;
    let has_session = begin_session()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(system("forbid core dumps"))?;
    // Directories of the host are held open by descriptor.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system("ask for limits"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(system("raise the limit of files"))?;
    prctl::set_no_new_privs().map_err(system("give up new privileges"))?;
    let mut jail = match args.confinement {
        Confinement::On => Some(enter(&plan(args))?),
        Confinement::Off => None,
    };
    if let Some(jail) = jail.as_mut().filter(|_| !has_session) {
        let missing = "The helper was started as leader of a process group: it has no session of \
                       its own";
        jail.report.missing.push(missing.to_owned());
    }
    prctl::set_dumpable(false).map_err(system("forbid being traced"))?;
    // After the change of credentials, which would undo it.
    die_with_parent()?;
    sys::retain_environment(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(OUR_VARIABLES.as_bytes())
            || KEPT_VARIABLES.iter().any(|kept| kept.as_bytes() == name)
    });
    let Some(Jail { report, blanks, engine, facts }) = jail else {
        let granted = Granted::everything(Report::off());
        return Ok(Begun { connection, granted });
    };
    engine::launcher::begin(move || engine.enter().map_err(ConfineError::from))?;
    let refusals = seal(facts)?;
    let grants = args.grants.clone();
    let granted = Granted::only(grants, args.network, (blanks, refusals), report);
    Ok(Begun { connection, granted })
}

fn plan(args: &Args) -> Plan {
    let files = engine::Files::of_host();
    let mut grants = args.grants.clone();
    grants.extend(args.debug_socket.iter().map(|path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Grant::new(Access::Socket, path)
    }));
    let mut system = files.system;
    if args.network {
        system.extend(NETWORK_FILES.map(PathBuf::from));
    }
    Plan {
        grants,
        network: args.network,
        control_group: args.cgroup.clone(),
        system,
        devices: files.devices,
        programs: files.programs,
        program_files: files.program_files,
    }
}

/// A session and process group of our own. Whether there is one: the leader of a group in another's
/// session cannot leave it.
fn begin_session() -> Result<bool, ConfineError> {
    if getsid(None) == Ok(getpid()) || setsid().is_ok() {
        return Ok(true);
    }
    if getpgrp() != getpid() {
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(system("make a process group"))?;
    }
    Ok(false)
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

impl From<io::Error> for ConfineError {
    fn from(source: io::Error) -> Self {
        Self::System { what: "start the launcher's thread", source }
    }
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ConfineError {
    move |error| ConfineError::System { what, source: error.into() }
}
