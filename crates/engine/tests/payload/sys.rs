//! A copy of this process.
#![allow(unsafe_code, reason = "fork and what ends its child are unsafe")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Runs a test in a copy of this process that has this thread alone, and panics when it does.
pub(crate) fn in_a_copy(body: impl FnOnce()) {
    // SAFETY: the other thread of a test's process waits for this one and holds no lock; the C
    // library sees to it that its allocator works in the child.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let code = i32::from(catch_unwind(AssertUnwindSafe(body)).is_err());
            // SAFETY: it ends the process at once, and nothing of the parent's runs in it.
            unsafe { nix::libc::_exit(code) }
        }
    };
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
}
