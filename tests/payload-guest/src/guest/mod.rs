//! The guest itself, without the standard library.
//!
//! Memory, besides the program at 1 MiB: [`CONTROL`] for the control port, [`RINGS`], and [`DATA`],
//! from which chains are cut one after the other and which is free again when all have come back.

#![allow(clippy::cast_possible_truncation, reason = "a guest of 64 bits, on which usize is u64")]

mod bench;
mod boot;
mod command;
mod console;
mod device;
mod output;
mod queue;
mod segments;
mod sys;
mod words;

use boot::Boot;
use command::Machine;

/// The control port's buffers.
pub(crate) const CONTROL: u64 = 12 << 20;
/// Rings of all devices.
pub(crate) const RINGS: u64 = 16 << 20;
/// Chains' data.
pub(crate) const DATA: u64 = 20 << 20;
/// Where that ends: the smallest machine has a little more.
pub(crate) const DATA_END: u64 = 56 << 20;

/// Why something did not work, for the host.
pub(crate) type Problem = &'static str;

/// Runs for ever. `protocol` is how many bits the entry had, `information` the address that came
/// with it.
pub fn run(protocol: u64, information: u64) -> ! {
    output::serial("payload guest\n");
    let boot = Boot::read(protocol, information);
    let mut machine = Machine::new(boot);
    match machine.serve() {
        Ok(never) => match never {},
        Err(problem) => {
            output::serial(problem);
            output::serial("\n");
            sys::reset()
        }
    }
}

/// Tells where on the console, and resets.
pub fn panicked(panic: &core::panic::PanicInfo<'_>) -> ! {
    use core::fmt::Write;
    let _ = writeln!(output::Serial, "{panic}");
    sys::reset()
}
