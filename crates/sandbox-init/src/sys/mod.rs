//! The system calls that need `unsafe`, each behind a safe function; nothing else is here.
//!
//! PID 1 has one thread. That is what makes [`spawn`] safe: the child of a fork is a whole copy, in
//! which no lock is held by a thread that does not exist there.

pub(crate) mod descriptors;
pub(crate) mod ioctl;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod terminal;
pub(crate) mod wait;
pub(crate) mod watch;
