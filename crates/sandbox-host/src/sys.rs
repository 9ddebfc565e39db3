//! The system calls that have no safe wrapper.
#![allow(
    unsafe_code,
    reason = "close_range, adopting file descriptor 3, and clearing the environment"
)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    let Ok(first) = libc::c_uint::try_from(first) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    // SAFETY: called from main before anything has opened a descriptor of its own, so nothing in
    // this process owns one that is closed here.
    let result = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes ownership of a descriptor that this process has inherited, and lets no child inherit it;
/// `None` when it is not open. Called once for each descriptor.
pub(crate) fn inherited(fd: RawFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: F_SETFD takes an integer and changes nothing but a flag of the descriptor.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result == 0 {
        // SAFETY: it is open, as was just seen; it was inherited, so nobody in this process owns it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EBADF) => Ok(None),
        error => Err(error),
    }
}

/// Removes every variable of the environment that `keep` does not want.
pub(crate) fn retain_environment(keep: impl Fn(&OsStr) -> bool) {
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    for name in names.iter().filter(|name| !keep(name)) {
        // SAFETY: called from main before there is a second thread, so nobody reads the
        // environment at the same time.
        unsafe { std::env::remove_var(name) };
    }
}
