//! Loading an ELF kernel: each segment to its physical address.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Sizes of the two structures (System V ABI, 4).
const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// A kernel has a handful.
const MAX_SEGMENTS: u16 = 64;
const PT_LOAD: u32 = 1;
/// 64 bits, lowest byte first, version 1.
const IDENTITY: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const X86_64: u16 = 62;
/// Below it are the tables of the boot.
const LOWEST: u64 = 1 << 20;
/// What the page tables of the boot reach.
const HIGHEST_ENTRY: u64 = 1 << 30;
/// Copied at once.
const PIECE: usize = 1 << 20;

/// A kernel in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Its first instruction, in 64-bit mode.
    pub(super) entry: u64,
    /// The first address after it.
    pub(super) end: u64,
}

/// Why a kernel is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    #[error("it is not an uncompressed x86-64 ELF file (a vmlinux)")]
    NotElf,
    #[error("its segments contradict themselves")]
    Segments,
    #[error("it does not fit into the guest's memory")]
    NoRoom,
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Loads a kernel below `limit`.
pub(super) fn load(
    file: &File,
    memory: &GuestMemoryMmap,
    limit: u64,
) -> Result<Kernel, KernelError> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => KernelError::NotElf,
        _ => KernelError::Read(error),
    })?;
    if !header.starts_with(&IDENTITY) || u16_at(&header, 18) != X86_64 {
        return Err(KernelError::NotElf);
    }
    let (entry, table) = (u64_at(&header, 24), u64_at(&header, 32));
    let (size, count) = (u16_at(&header, 54), u16_at(&header, 56));
    if usize::from(size) != SEGMENT || count > MAX_SEGMENTS {
        return Err(KernelError::Segments);
    }
    let mut end = 0;
    for index in 0..u64::from(count) {
        let at = index.checked_mul(SEGMENT as u64).and_then(|offset| table.checked_add(offset));
        let mut segment = [0; SEGMENT];
        file.read_exact_at(&mut segment, at.ok_or(KernelError::Segments)?)?;
        if u32_at(&segment, 0) == PT_LOAD {
            end = end.max(load_segment(file, memory, &segment, limit)?);
        }
    }
    if !(LOWEST..end.min(HIGHEST_ENTRY)).contains(&entry) {
        return Err(KernelError::Segments);
    }
    Ok(Kernel { entry, end })
}

/// The first address after the segment.
fn load_segment(
    file: &File,
    memory: &GuestMemoryMmap,
    segment: &[u8; SEGMENT],
    limit: u64,
) -> Result<u64, KernelError> {
    let (mut offset, mut address) = (u64_at(segment, 8), u64_at(segment, 24));
    let (in_file, in_memory) = (u64_at(segment, 32), u64_at(segment, 40));
    let end = address.checked_add(in_memory).ok_or(KernelError::Segments)?;
    if in_file > in_memory || address < LOWEST || offset.checked_add(in_file).is_none() {
        return Err(KernelError::Segments);
    }
    let length = usize::try_from(in_memory).map_err(|_| KernelError::NoRoom)?;
    if end > limit || !memory.check_range(GuestAddress(address), length) {
        return Err(KernelError::NoRoom);
    }
    let mut bytes = vec![0; PIECE];
    let mut left = usize::try_from(in_file).map_err(|_| KernelError::NoRoom)?;
    // What is in memory only is zeros, which it is.
    while left > 0 {
        let piece = &mut bytes[..left.min(PIECE)];
        file.read_exact_at(piece, offset)?;
        memory.write_slice(piece, GuestAddress(address)).map_err(|_| KernelError::NoRoom)?;
        left -= piece.len();
        offset += piece.len() as u64;
        address += piece.len() as u64;
    }
    Ok(end)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// One segment: where it is, how long in the file and in memory, and the entry.
    fn elf(address: u64, in_file: u64, in_memory: u64, entry: u64) -> Vec<u8> {
        let mut bytes = IDENTITY.to_vec();
        bytes.resize(HEADER + SEGMENT, 0);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(18, &X86_64.to_le_bytes());
        put(24, &entry.to_le_bytes());
        put(32, &(HEADER as u64).to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(HEADER, &PT_LOAD.to_le_bytes());
        for (at, value) in [(8, 120), (24, address), (32, in_file), (40, in_memory)] {
            put(HEADER + at, &u64::to_le_bytes(value));
        }
        bytes.extend(std::iter::repeat_n(7, 3000));
        bytes
    }

    fn load_bytes(bytes: &[u8]) -> Result<(Kernel, GuestMemoryMmap), KernelError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let regions = [(GuestAddress(0), 4 * 1024 * 1024)];
        let memory = GuestMemoryMmap::from_ranges(&regions).unwrap();
        load(&file, &memory, 4 * MIB).map(|kernel| (kernel, memory))
    }

    #[test]
    fn a_segment_comes_to_its_address() {
        let (kernel, memory) = load_bytes(&elf(MIB, 3000, 5000, MIB + 8)).unwrap();
        assert_eq!(kernel, Kernel { entry: MIB + 8, end: MIB + 5000 });
        let mut bytes = [0; 3001];
        memory.read_slice(&mut bytes, GuestAddress(MIB)).unwrap();
        assert!(bytes[..3000].iter().all(|byte| *byte == 7));
        assert_eq!(bytes[3000], 0);
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_the_reason() {
        let refused = |bytes: &[u8]| load_bytes(bytes).unwrap_err().to_string();
        assert!(refused(b"").contains("not an uncompressed"));
        assert!(refused(&[0; 4096]).contains("not an uncompressed"));
        assert!(refused(&elf(MIB, 3000, 5 * MIB, MIB)).contains("does not fit"));
        assert!(refused(&elf(MIB, 3000, u64::MAX, MIB)).contains("contradict"));
        assert!(refused(&elf(0x9_0000, 3000, 5000, 0x9_0000)).contains("contradict"));
        assert!(refused(&elf(MIB, 5000, 3000, MIB)).contains("contradict"));
        assert!(refused(&elf(MIB, 3000, 3000, 2 * MIB)).contains("contradict"));
        assert!(refused(&elf(MIB, 4000, 4000, MIB)).contains("cannot be read"));
        let mut far = elf(MIB, 3000, 3000, MIB);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(refused(&far).contains("cannot be read"));
    }
}
