//! A kernel of a few instructions: prints on the serial port, then does one thing. An ELF that is
//! entered in 64-bit mode, as Linux is.

use std::fs::File;

use crate::support::file;

const LOAD_ADDRESS: u64 = 0x10_0000;
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const CODE: u64 = (HEADER + SEGMENT) as u64;
/// `here: jmp here`
const FOR_EVER: [u8; 2] = [0xeb, 0xfe];

/// What the kernel does after it has printed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// Faults three times.
    TripleFault,
    /// Tells the keyboard controller to reset, as `reboot=k` does.
    KeyboardReset,
    /// Tells the chipset to, as `reboot=p` does.
    ChipsetReset,
    /// Waits for ever with interrupts off.
    Halt,
    /// Never stops computing, with interrupts off.
    Spin,
    /// Prints again, for ever.
    Repeat,
    /// Goes on where there is no memory, which KVM cannot emulate.
    NoMemory,
    /// Prints the command line and a line feed, then waits for ever.
    PrintCommandLine,
}

/// The kernel as a file.
pub(crate) fn flat_kernel(text: &[u8], then: Then) -> File {
    let code = code(text, then);
    let size = CODE + code.len() as u64;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes()); // ET_EXEC, EM_X86_64
    }
    elf.extend_from_slice(&1u32.to_le_bytes());
    for word in [LOAD_ADDRESS + CODE, HEADER as u64, 0] {
        elf.extend_from_slice(&word.to_le_bytes()); // entry, segments, sections
    }
    elf.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1u32, 7] {
        elf.extend_from_slice(&word.to_le_bytes()); // PT_LOAD, all rights
    }
    for word in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 4096] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    assert_eq!(elf.len() as u64, CODE);
    elf.extend_from_slice(&code);
    file(&elf)
}

fn code(text: &[u8], then: Then) -> Vec<u8> {
    assert!(!text.is_empty(), "the loop prints at least one");
    // mov rbx, rsi; mov dx, 0x3f8; lea rsi, [rip + text]; mov ecx, length; again: lodsb;
    // out dx, al; loop again
    let mut code = vec![0x48, 0x89, 0xf3, 0x66, 0xba, 0xf8, 0x03, 0x48, 0x8d, 0x35];
    let ending = ending(then);
    let length = u32::try_from(text.len()).unwrap();
    // After the displacement: 5 + 4 bytes of the loop, and the ending.
    let distance = 9 + u32::try_from(ending.len()).unwrap();
    code.extend_from_slice(&distance.to_le_bytes());
    code.push(0xb9);
    code.extend_from_slice(&length.to_le_bytes());
    code.extend_from_slice(&[0xac, 0xee, 0xe2, 0xfc]);
    code.extend_from_slice(&ending);
    code.extend_from_slice(text);
    code
}

fn ending(then: Then) -> Vec<u8> {
    match then {
        // push 0; push 0; lidt [rsp]; ud2
        Then::TripleFault => vec![0x6a, 0, 0x6a, 0, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b],
        // mov al, 0xfe; out 0x64, al
        Then::KeyboardReset => [&[0xb0, 0xfe, 0xe6, 0x64], &FOR_EVER[..]].concat(),
        // mov dx, 0xcf9; mov al, 6; out dx, al
        Then::ChipsetReset => [&[0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee], &FOR_EVER[..]].concat(),
        // cli; again: hlt; jmp again
        Then::Halt => vec![0xfa, 0xf4, 0xeb, 0xfd],
        Then::Spin => [&[0xfa], &FOR_EVER[..]].concat(),
        // From the code's beginning: what rbx was does not matter.
        Then::Repeat => vec![0xeb, 0xe7],
        // mov eax, 0x10000000; jmp rax
        Then::NoMemory => vec![0xb8, 0, 0, 0, 0x10, 0xff, 0xe0],
        // mov esi, [rbx + 0x228]; again: lodsb; test al, al; jz end; out dx, al; jmp again;
        // end: mov al, 10; out dx, al; cli; hlt
        Then::PrintCommandLine => vec![
            0x8b, 0xb3, 0x28, 0x02, 0, 0, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xb0,
            0x0a, 0xee, 0xfa, 0xf4, 0xeb, 0xfd,
        ],
    }
}
