//! The krun engine against the real /dev/kvm, with kernels of a few instructions: they need nothing
//! of it that an emulated kernel mode refuses.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod devices;
mod flat_kernel;
#[path = "../common/held.rs"]
#[allow(dead_code, reason = "each of those that share it uses a part of it")]
mod held;
mod interrupts;
mod lifecycle;
#[path = "../common/machine.rs"]
mod machine;
mod refusals;
mod support;
