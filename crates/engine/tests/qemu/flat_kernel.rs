//! A kernel of a few instructions: prints a text on the serial port, then resets, halts or spins.
//! An ELF with a PVH entry note, which is what QEMU looks for in a vmlinux.

use std::fs::File;
use std::io::{Seek, Write};

const LOAD_ADDRESS: u32 = 0x10_0000;
const HEADER: u32 = 64;
const SEGMENTS: u32 = 2 * 56;
const NOTE: u32 = 24;
const CODE: u32 = HEADER + SEGMENTS + NOTE;

/// What the kernel does after it has printed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// Faults three times, which resets.
    Reset,
    /// Waits for ever with interrupts off.
    Halt,
    /// Never stops computing.
    Spin,
    /// Prints again, for ever.
    Repeat,
}

/// The kernel as a file.
pub(crate) fn flat_kernel(text: &[u8], then: Then) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&elf(text, then)).unwrap();
    file.rewind().unwrap();
    file
}

fn elf(text: &[u8], then: Then) -> Vec<u8> {
    let code = code(text, then);
    let size = u64::from(CODE) + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes()); // ET_EXEC, EM_X86_64
    }
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [u64::from(LOAD_ADDRESS + CODE), u64::from(HEADER), 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, segments, sections
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    let note_at = u64::from(HEADER + SEGMENTS);
    segment(&mut elf, 1, 7, 0, size);
    segment(&mut elf, 4, 4, note_at, u64::from(NOTE));
    for word in [4u32, 8, 18] {
        elf.extend_from_slice(&word.to_le_bytes()); // name, value, XEN_ELFNOTE_PHYS32_ENTRY
    }
    elf.extend_from_slice(b"Xen\0");
    elf.extend_from_slice(&u64::from(LOAD_ADDRESS + CODE).to_le_bytes());
    assert_eq!(elf.len(), CODE as usize);
    elf.extend_from_slice(&code);
    elf
}

fn segment(elf: &mut Vec<u8>, kind: u32, flags: u32, offset: u64, size: u64) {
    let address = u64::from(LOAD_ADDRESS) + offset;
    elf.extend_from_slice(&kind.to_le_bytes());
    elf.extend_from_slice(&flags.to_le_bytes());
    for word in [offset, address, address, size, size, 4] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
}

/// 32-bit code, as PVH enters it: protected mode, flat segments, no paging.
fn code(text: &[u8], then: Then) -> Vec<u8> {
    let ending: &[u8] = match then {
        // An empty interrupt table, then a breakpoint.
        Then::Reset => &[0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0xcc],
        Then::Halt => &[0xfa, 0xf4, 0xeb, 0xfd],
        Then::Spin => &[0xeb, 0xfe],
        Then::Repeat => &[0xeb, 0xeb],
    };
    const PRINT: u32 = 19;
    let text_at = LOAD_ADDRESS + CODE + PRINT + u32::try_from(ending.len()).unwrap();
    let length = u32::try_from(text.len()).unwrap();
    let mut code = vec![0xfc, 0xbe];
    code.extend_from_slice(&text_at.to_le_bytes());
    code.push(0xb9);
    code.extend_from_slice(&length.to_le_bytes());
    code.extend_from_slice(&[0x66, 0xba, 0xf8, 0x03, 0xac, 0xee, 0xe2, 0xfc]);
    assert_eq!(code.len(), PRINT as usize);
    code.extend_from_slice(ending);
    if let Then::Reset = then {
        let table_at = (text_at + length).to_le_bytes();
        code[PRINT as usize + 3..][..4].copy_from_slice(&table_at);
    }
    code.extend_from_slice(text);
    code.extend_from_slice(&[0; 6]);
    code
}
