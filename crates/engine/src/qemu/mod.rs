//! QEMU as an engine: `qemu-system-x86_64`, 7.2 or newer, emulating a `microvm` in software.
//!
//! ```text
//! VmSpec ─► CommandLine ─► Keeper ── fork ──► qemu-system-x86_64
//!   control, console ◄─────────── chardev sockets ──┤
//!   virtio::serve_block ◄──────── vhost-user ───────┤   guest memory: one memfd
//!   Keeper ◄───────────────────── QMP, stderr ──────┘
//! ```
//! The child gets everything as an inherited descriptor: no path, no listening socket. What it may
//! do is bounded by its own seccomp filter (`-sandbox`), no new privileges, an empty environment, the
//! limits of [`crate::sys::child`], and what [`crate::launcher`]'s thread has given up. What it says is not trusted: the guest may have taken it
//! over.

mod command_line;
mod devices;
mod keeper;
mod kernel_parameters;
mod last_words;
mod machine;
mod process;
mod program;
mod qmp;

pub(crate) use machine::Machine;
pub(crate) use program::{
    INSTALL, MINIMUM, PROGRAM, STANDARD_DIRECTORIES, find, find_in, version_of,
};
