//! The real program: how it starts, how it ends, and one real boot.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it skips"
)]

#[cfg(debug_assertions)]
mod attempts;
mod boot;
#[path = "../support/calls.rs"]
mod calls;
mod confinement;
mod debug_socket;
mod end;
#[path = "../support/helper.rs"]
mod helper;
#[path = "../support/machine.rs"]
mod machine;
mod start;

use std::path::Path;

/// The program under test.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sandbox-host"))
}
