//! The guest as a program: built by the build script, not by cargo.

#![no_std]
#![no_main]

mod guest;

core::arch::global_asm!(include_str!("entry.s"), options(att_syntax));

/// Called by the entry code, on the first processor alone.
#[unsafe(no_mangle)]
extern "C" fn payload_main(protocol: u64, information: u64) -> ! {
    guest::run(protocol, information)
}

#[panic_handler]
fn panicked(panic: &core::panic::PanicInfo<'_>) -> ! {
    guest::panicked(panic)
}
