//! What a child process does to itself between fork and exec: it will die with its parent, leave
//! no core behind, gain no privileges, and hold no descriptor that it was not given.

#![allow(unsafe_code, reason = "code that runs between fork and exec, and close_range(2)")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

/// Descriptors up to here are standard input, output and error.
const LAST_STANDARD_FD: libc::c_uint = 2;

/// Prepares `command` so that its process is confined as above and inherits `passed` under their
/// own numbers. The descriptors are closed here when the command is dropped.
///
/// The thread that spawns (the launcher's, where there is one) must outlive the child: Linux sends the parent-death signal when that
/// thread ends, not when its process does.
pub(crate) fn confine(command: &mut Command, passed: Vec<OwnedFd>) {
    let parent = getpid();
    let highest = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let in_child = move || become_child(parent, highest, &passed);
    // SAFETY: the closure only makes system calls on data that was prepared before the fork; it
    // neither allocates nor takes a lock.
    unsafe { command.pre_exec(in_child) };
}

fn become_child(parent: Pid, highest: libc::rlim_t, passed: &[OwnedFd]) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        // The parent ended before the line above took effect.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    set_no_new_privs()?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    close_all_on_exec(highest);
    for fd in passed {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

/// Marks every descriptor beyond the standard ones close-on-exec, also those that this process
/// was itself given without the mark.
fn close_all_on_exec(highest: libc::rlim_t) {
    // SAFETY: close_range takes three integers; with this flag it closes nothing yet.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            LAST_STANDARD_FD + 1,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        return;
    }
    // Linux before 5.11. A descriptor that is not open answers EBADF, which is as good.
    let last = libc::c_int::try_from(highest).unwrap_or(libc::c_int::MAX);
    for fd in 3..last {
        // SAFETY: F_SETFD takes integers only.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
