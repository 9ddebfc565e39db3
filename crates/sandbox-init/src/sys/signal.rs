//! Sending any signal, real-time ones included (nix's `Signal` knows the first 31 only), and the
//! default disposition of SIGPIPE, which the Rust runtime ignores and a child would inherit.
#![allow(unsafe_code, reason = "kill(2) and signal(2) from libc")]

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// The smallest and the largest signal number of the kernel (signal(7)).
pub(crate) const FIRST: i32 = 1;
/// See [`FIRST`].
pub(crate) const LAST: i32 = 64;

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One process.
    Process(Pid),
    /// Every process of the group with this number.
    Group(Pid),
    /// Every process but PID 1.
    Everybody,
}

/// Sends `number`; 0 only asks whether there is somebody to send to.
pub(crate) fn send(target: Target, number: i32) -> nix::Result<()> {
    let pid = match target {
        // 0 and negative numbers mean something else to kill(2).
        Target::Process(pid) | Target::Group(pid) if pid.as_raw() <= 1 => {
            return Err(Errno::EINVAL);
        }
        Target::Process(pid) => pid.as_raw(),
        Target::Group(pid) => -pid.as_raw(),
        Target::Everybody => -1,
    };
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid, number) }).map(drop)
}

/// Gives SIGPIPE its default disposition, in a child that is about to exec.
pub(crate) fn default_sigpipe() -> nix::Result<()> {
    // SAFETY: SIG_DFL installs no code of ours.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(Errno::last()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_kill_reads_as_broadcasts_are_refused() {
        for raw in [1, 0, -1, -7] {
            assert_eq!(send(Target::Process(Pid::from_raw(raw)), 0), Err(Errno::EINVAL));
            assert_eq!(send(Target::Group(Pid::from_raw(raw)), 0), Err(Errno::EINVAL));
        }
    }
}
