//! Reaping: waitpid(2) without waiting. nix's own loses the status, and the pid, of a process that
//! a real-time signal has ended.
#![allow(unsafe_code, reason = "waitpid(2) from libc")]

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// A signal with this number ended it.
    Signal(i32),
}

/// Which child to reap.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Any: right for PID 1, which has no other use for waitpid.
    #[cfg_attr(test, allow(dead_code, reason = "a test process has children of others"))]
    Any,
    /// One.
    #[cfg_attr(not(test), allow(dead_code, reason = "a test process has children of others"))]
    One(Pid),
}

/// Reaps one child that has ended; `None` when none has.
pub(crate) fn reap(which: Which) -> Option<(Pid, Exit)> {
    let wanted = match which {
        Which::Any => -1,
        Which::One(pid) => pid.as_raw(),
    };
    loop {
        let mut status: libc::c_int = 0;
        // SAFETY: waitpid writes one int to the given address, which outlives the call.
        let pid = unsafe { libc::waitpid(wanted, &raw mut status, libc::WNOHANG) };
        match Errno::result(pid) {
            Err(Errno::EINTR) => {}
            Err(_) | Ok(0) => return None,
            Ok(pid) if libc::WIFSIGNALED(status) => {
                return Some((Pid::from_raw(pid), Exit::Signal(libc::WTERMSIG(status))));
            }
            Ok(pid) if libc::WIFEXITED(status) => {
                return Some((Pid::from_raw(pid), Exit::Code(libc::WEXITSTATUS(status))));
            }
            // Stopped and continued children are not asked for.
            Ok(_) => {}
        }
    }
}

/// Whether there is any child at all, ended or not. Every process of the guest descends from PID 1
/// through parents that live (those whose parents end become its own): without children it is
/// alone.
pub(crate) fn have_children() -> bool {
    // SAFETY: siginfo_t is plain data; all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid writes one siginfo_t to the given address, which outlives the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
    Errno::result(result) != Err(Errno::ECHILD)
}
