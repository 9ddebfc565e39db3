//! Pseudoterminals: the ioctls of ioctl_tty(2) that have no safe wrapper.
#![allow(unsafe_code, reason = "ioctl(2) is not typed")]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// Lets the other side of a new pseudoterminal be opened.
pub(crate) fn unlock(master: impl AsFd) -> nix::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int from the given address, which outlives the call.
    let result =
        unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
    Errno::result(result).map(drop)
}

/// Opens the other side without a path that the workload could have put something else at.
pub(crate) fn peer(master: impl AsFd) -> nix::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes its argument as flags and touches no memory of ours.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: TIOCGPTPEER has returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the size; the foreground group gets SIGWINCH when it is another.
pub(crate) fn set_size(terminal: impl AsFd, size: Size) -> nix::Result<()> {
    let size =
        libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the given address, which outlives the call.
    let result =
        unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(result).map(drop)
}

/// Makes it the controlling terminal of the caller, the leader of a session without one.
pub(crate) fn take_control(terminal: impl AsFd) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes its argument as a number and touches no memory of ours.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) };
    Errno::result(result).map(drop)
}

/// Hangs it up: SIGHUP and SIGCONT to the session's leader and the foreground group, and everybody
/// who has it open reads its end.
pub(crate) fn hang_up(terminal: impl AsFd) -> nix::Result<()> {
    // SAFETY: TIOCVHANGUP takes no argument.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCVHANGUP) };
    Errno::result(result).map(drop)
}
