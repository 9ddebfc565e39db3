//! The krun engine against the real /dev/kvm, with kernels of a few instructions: they need nothing
//! of it that an emulated kernel mode refuses.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod devices;
mod flat_kernel;
#[path = "../qemu/held.rs"]
mod held;
mod interrupts;
mod lifecycle;
mod refusals;
mod support;
