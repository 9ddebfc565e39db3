//! The QEMU engine against the real QEMU.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod answers;
mod filesystems;
mod flat_kernel;
mod held;
mod lifecycle;
mod linux;
mod linux_guest;
mod network;
mod support;
