//! Which system calls a thread can make (seccomp(2)).
//!
//! Lists of what is allowed. Anything else fails with EPERM and is told: the kernel sends SIGSYS,
//! whose handler writes the call's number to the pipe that [`seal`] returns. It does not kill: the
//! C library is the host's, not ours, and a call that one of its versions makes is no reason to lose
//! a VM; and whoever has taken the process over gains nothing by a call that fails. In the engine's
//! process there is no such handler: calls that are not on its list fail with EPERM, which QEMU
//! tells as an error where it matters. A thread that blocks all signals, as the probe of KVM does,
//! cannot be told: there the kernel ends the process with SIGSYS, which the client sees.
//!
//! A thread has the filter of the thread that started it and its own: both must allow a call.

mod apply;
mod calls;
mod role;

pub(crate) use apply::apply;
pub use apply::{Facts, seal, thread};
pub use role::Role;
