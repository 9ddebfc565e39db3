//! The terminal of a process: a pseudoterminal (pty(7)) that PID 1 holds the master of.
//!
//! PID 1 keeps the other side open, too: output then ends with the process, not when the process
//! has closed its descriptors for a moment.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr};

use crate::sys::terminal::{self, Size};

/// Where a machine's terminals are made: the directory of its devpts. A path would be looked up in
/// what the workload has mounted since.
#[derive(Debug)]
pub(crate) struct Terminals {
    directory: OwnedFd,
}

/// Both sides of a terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Ours.
    pub(crate) master: OwnedFd,
    /// The process's.
    slave: OwnedFd,
}

impl Terminals {
    /// Those of the devpts that is mounted at /dev/pts now.
    pub(crate) fn open() -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(c"/dev/pts", flags, Mode::empty())?;
        Ok(Self { directory })
    }

    /// A new terminal of this size, for UTF-8.
    pub(crate) fn make(&self, size: Size) -> nix::Result<Terminal> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let master = openat(&self.directory, c"ptmx", flags, Mode::empty())?;
        terminal::unlock(&master)?;
        let slave = terminal::peer(&master)?;
        let mut settings = tcgetattr(&slave)?;
        settings.input_flags |= InputFlags::IUTF8;
        tcsetattr(&slave, SetArg::TCSANOW, &settings)?;
        terminal::set_size(&master, size)?;
        Ok(Terminal { master, slave })
    }
}

impl Terminal {
    /// The process's side.
    pub(crate) fn slave(&self) -> BorrowedFd<'_> {
        self.slave.as_fd()
    }

    /// Gives it a new size.
    pub(crate) fn resize(&self, size: Size) -> nix::Result<()> {
        terminal::set_size(&self.master, size)
    }

    /// Ends it for those who use it.
    pub(crate) fn hang_up(&self) {
        match terminal::hang_up(&self.slave) {
            // What cannot be hung up any more has been.
            Ok(()) | Err(Errno::EIO) => {}
            Err(errno) => crate::console::say(format_args!("hanging a terminal up: {errno}")),
        }
    }
}
