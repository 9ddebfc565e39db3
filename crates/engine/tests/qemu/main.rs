//! The QEMU engine against the real QEMU.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod answers;
mod filesystems;
mod flat_kernel;
#[path = "../common/held.rs"]
#[allow(dead_code, reason = "each of those that share it uses a part of it")]
mod held;
mod lifecycle;
mod linux;
mod linux_guest;
#[path = "../common/machine.rs"]
mod machine;
mod network;
mod support;
