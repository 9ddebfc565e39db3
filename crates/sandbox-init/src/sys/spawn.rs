//! Starting a child: fork(2), or clone3(2) straight into a cgroup (Linux 5.7), because moving a
//! process between cgroups later waits for every CPU (an RCU grace period, 10 ms and more).
//!
//! The child is a real fork and no vfork: it looks up paths that the workload controls, where a
//! lookup may take as long as a filesystem server in the guest likes. PID 1 must not wait for that.
#![allow(unsafe_code, reason = "fork(2), clone3(2)")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// linux/sched.h: handled signals go back to their defaults in the child.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// linux/sched.h: the child starts in the cgroup of `clone_args.cgroup`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Exit status of a child whose `body` panicked.
const PANICKED: i32 = 70;

/// Starts a child that runs `body` and exits with its result; `body` usually ends in exec. With a
/// cgroup the child is in it from its first instruction.
///
/// With a cgroup the caller must be the only thread of this process (PID 1 is): `body` may then
/// allocate. Without one fork(2) of the C library is used, which sees to its own locks.
pub(crate) fn spawn(
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> nix::Result<Pid> {
    let pid = match cgroup {
        Some(cgroup) => clone_into(cgroup)?,
        // SAFETY: `body` runs in a copy of a process with one thread; in tests, where there are
        // more, the C library's fork leaves its allocator usable.
        None => Errno::result(unsafe { libc::fork() })?,
    };
    if pid != 0 {
        return Ok(Pid::from_raw(pid));
    }
    let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
    // SAFETY: _exit ends the child without running what belongs to the parent: exit handlers,
    // destructors (which would take descriptors out of the epoll set that both share), buffers.
    unsafe { libc::_exit(status) }
}

/// Returns the child's number in the parent and 0 in the child.
fn clone_into(cgroup: BorrowedFd<'_>) -> nix::Result<libc::pid_t> {
    // SAFETY: clone_args is plain data for which all zeroes means "nothing special".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND;
    arguments.exit_signal = libc::SIGCHLD.unsigned_abs().into();
    arguments.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    // SAFETY: no memory is shared with the child (no CLONE_VM) and it goes on on its copy of this
    // stack; the arguments outlive the call and their size is the one given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    libc::pid_t::try_from(Errno::result(result)?).map_err(|_| Errno::EOVERFLOW)
}
