//! Files of the guest for the host: `FileService` of lanebox.guest.v1.
//!
//! ```text
//! call ─► service ─► worker: a copy of PID 1, one a call ─► operations, content, tree ─► files
//!            ▲                        │
//!            └──── frames over a socket pair ◄┘
//! ```
//! A filesystem of the guest may be served by a process of the guest, or by a callback of the host,
//! and may not answer. PID 1 never waits for that: the worker does, and it is killed when its call
//! is dropped. It lives in the workload's cgroup, so what it makes the kernel keep is accounted there.

mod content;
pub(crate) mod frame;
mod operations;
mod service;
mod tree;
mod tree_writer;
mod worker;

pub(crate) use service::Files;
