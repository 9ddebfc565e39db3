//! What the boot protocol tells: the command line, memory, processors.

use super::sys;

/// Bytes of a command line that are looked at.
const LONGEST: u64 = 4096;

/// What came with the entry.
pub(crate) struct Boot {
    /// How many bits the entry had.
    pub(crate) protocol: u64,
    /// Address and length of the command line.
    command_line: (u64, u64),
    /// Bytes of memory that there are, as the map says.
    pub(crate) memory: u64,
}

impl Boot {
    pub(crate) fn read(protocol: u64, information: u64) -> Self {
        // hvm_start_info, and boot_params; entries of the memory map have 24 and 20 bytes.
        let (text, map, entries, size) = if protocol == 32 {
            let entries = sys::read32(information + 48);
            (sys::read64(information + 24), sys::read64(information + 40), entries.into(), 24)
        } else {
            let entries = sys::read8(information + 0x1e8);
            (sys::read32(information + 0x228).into(), information + 0x2d0, entries.into(), 20)
        };
        let length = (0..LONGEST).take_while(|at| sys::read8(text + at) != 0).count() as u64;
        let entries: u64 = entries;
        let memory = (0..entries.min(128))
            .map(|index| map + index * size)
            .filter(|entry| sys::read32(entry + 16) == 1)
            .map(|entry| sys::read64(entry + 8))
            .sum();
        Self { protocol, command_line: (text, length), memory }
    }

    /// A byte of the command line; zero after its end.
    pub(crate) fn character(&self, index: u64) -> u8 {
        let (address, length) = self.command_line;
        if index < length { sys::read8(address + index) } else { 0 }
    }

    /// Address and length of the command line.
    pub(crate) fn command_line(&self) -> (u64, u64) {
        self.command_line
    }
}

/// Processors in the table of the MultiProcessor Specification 1.4, 4; zero when there is none.
pub(crate) fn processors() -> u64 {
    const FLOATING: u32 = u32::from_le_bytes(*b"_MP_");
    const TABLE: u32 = u32::from_le_bytes(*b"PCMP");
    let places = (0x9_d000..0xa_0000).chain(0xf_0000..0x10_0000).step_by(16);
    let Some(found) = places.into_iter().find(|place| sys::read32(*place) == FLOATING) else {
        return 0;
    };
    let table = u64::from(sys::read32(found + 4));
    if table == 0 || sys::read32(table) != TABLE {
        return 0;
    }
    // The header counts the entries, which not all firmware fills in; their length is right.
    let end = table + u64::from(sys::read16(table + 4));
    let mut entry = table + 44;
    let mut processors = 0;
    while entry < end {
        if sys::read8(entry) == 0 {
            processors += u64::from(sys::read8(entry + 3) & 1);
            entry += 20;
        } else {
            entry += 8;
        }
    }
    processors
}
