//! What is not memory-safe by nature: ports, registers of devices, and memory that devices share.
//!
//! All memory of the guest is mapped one to one, and nothing of what these functions reach is known
//! to the compiler, except when the host asks for it: then the guest may crash, which is the
//! guest's business alone.

#![allow(unsafe_code, reason = "drives hardware")]

use core::arch::asm;

use super::Problem;

/// How long a device may take, in ticks of the time stamp counter: at least 10 s.
const PATIENCE: u64 = 50_000_000_000;

/// Writes to a port.
pub(crate) fn write_port(port: u16, value: u8) {
    // SAFETY: ports of this machine have no influence on memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}

/// The time stamp counter.
pub(crate) fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Asks again and again, for as long as a device may take.
pub(crate) fn wait<T>(mut poll: impl FnMut() -> Option<T>, late: Problem) -> Result<T, Problem> {
    let begun = ticks();
    loop {
        if let Some(found) = poll() {
            return Ok(found);
        }
        if ticks().wrapping_sub(begun) > PATIENCE {
            return Err(late);
        }
        core::hint::spin_loop();
    }
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads at an address that is a multiple of the size.
        pub(crate) fn $read(address: u64) -> $type {
            // SAFETY: mapped one to one; see the module.
            unsafe { (address as *const $type).read_volatile() }
        }

        /// Writes at an address that is a multiple of the size.
        #[allow(dead_code, reason = "not for every size")]
        pub(crate) fn $write(address: u64, value: $type) {
            // SAFETY: mapped one to one; see the module.
            unsafe { (address as *mut $type).write_volatile(value) };
        }
    };
}

access!(read8, write8, u8);
access!(read16, write16, u16);
access!(read32, write32, u32);
access!(read64, write64, u64);

/// Copies to an address.
pub(crate) fn write(address: u64, bytes: &[u8]) {
    let (length, from) = (bytes.len(), bytes.as_ptr());
    // SAFETY: reads the slice; where it writes is the host's concern; see the module.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") address => _,
             inout("rsi") from => _, options(nostack));
    }
}

/// Fills memory with a byte.
pub(crate) fn fill(address: u64, length: u64, byte: u8) {
    // SAFETY: where it writes is the host's concern; see the module.
    unsafe {
        asm!("rep stosb", inout("rcx") length => _, inout("rdi") address => _, in("al") byte,
             options(nostack));
    }
}

/// Fills memory with words that count up from `seed`; the last may be cut.
pub(crate) fn fill_pattern(address: u64, length: u64, seed: u64) {
    let words = length / 8;
    for index in 0..words {
        write64(address + index * 8, seed.wrapping_add(index));
    }
    let rest = (length % 8) as usize;
    write(address + words * 8, &seed.wrapping_add(words).to_le_bytes()[..rest]);
}

/// The sum of memory, as the library's `checksum` makes it.
pub(crate) fn checksum(address: u64, length: u64) -> u64 {
    let words = length / 8;
    let mut sum = 0u64;
    for index in 0..words {
        sum = sum.rotate_left(5).wrapping_add(read64(address + index * 8));
    }
    let mut rest = [0; 8];
    for index in 0..length % 8 {
        rest[index as usize] = read8(address + words * 8 + index);
    }
    if length.is_multiple_of(8) {
        sum
    } else {
        sum.rotate_left(5).wrapping_add(u64::from_le_bytes(rest))
    }
}

/// Faults where no handler is, which resets: this is a triple fault.
pub(crate) fn reset() -> ! {
    let nothing = [0u8; 10];
    // SAFETY: an interrupt table without entries; the machine ends with the next instruction.
    unsafe {
        asm!("lidt [{table}]", "ud2", table = in(reg) nothing.as_ptr(), options(noreturn));
    }
}

/// Computes for ever, without interrupts and without a look at anything.
pub(crate) fn spin() -> ! {
    // SAFETY: does nothing.
    unsafe { asm!("2: jmp 2b", options(noreturn)) }
}
