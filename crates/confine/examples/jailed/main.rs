//! Confines itself as told, tries to break out, and prints what came of each attempt. For the tests.
//!
//! usage: jailed FOLDER PROCESS PORT SOCKET --off|ROLE [network] [no-landlock] [GRANT…]
#![allow(clippy::print_stdout, reason = "it is what it is for")]

#[cfg(debug_assertions)]
mod attempt;

#[cfg(debug_assertions)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    attempt::main()
}

/// Release builds have no attempts.
#[cfg(not(debug_assertions))]
fn main() {}
