//! The lane's processes: `ProcessService` of lanebox.guest.v1.
//!
//! ```text
//! Run ─► request (checked) ─► start ─► child: user, directory, PATH, exec     (a copy of PID 1)
//!                               ├────► supervise: exit, timeout, cancel, stdin  (a task)
//!                               └────► output: stdout and stderr, then `exited` (the response)
//! Signal, Resize, Wait ─► runs ─► the group, the terminal, the end
//! SIGCHLD ─► children ─► supervise
//! ```
//! The response stream reads the pipes when the host has room for more and not before, so output
//! that nobody reads stays in the pipe and stops its writer, and PID 1 holds one message a call.

pub(crate) mod accounts;
mod child;
pub(crate) mod children;
mod failure;
mod input;
mod output;
pub(crate) mod request;
mod resources;
pub(crate) mod runs;
pub(crate) mod service;
pub(crate) mod signals;
mod start;
mod supervise;
pub(crate) mod terminal;

pub(crate) use child::DEFAULT_PATH;

#[cfg(test)]
mod tests;
