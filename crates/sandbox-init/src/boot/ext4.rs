//! What matters to the boot of an ext4 filesystem's superblock
//! (Documentation/filesystems/ext4/super.rst), and the disk that it lies on.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::step::{Failure, While};

/// Where the superblock lies, and its magic number.
const SUPERBLOCK: (u64, usize) = (1024, 1024);
const MAGIC: u32 = 0xEF53;
/// Of `s_state`: unmounted; with errors.
const VALID: u32 = 1;
const ERRORS: u32 = 2;
/// Of `s_feature_incompat`: the journal is to be replayed; numbers of blocks have 64 bits.
const RECOVER: u32 = 0x4;
const SIXTY_FOUR_BIT: u32 = 0x80;

/// What is known of a filesystem. Blocks are its own, of 1, 2 or 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Blocks of the filesystem.
    pub(super) blocks: u64,
    /// Blocks of the disk.
    pub(super) disk_blocks: u64,
    pub(super) block_bytes: u64,
    pub(super) blocks_per_group: u64,
    pub(super) journal_blocks: u64,
    pub(super) state: u32,
    pub(super) features: u32,
}

impl Superblock {
    pub(super) fn read(device: &str) -> Result<Self, Failure> {
        let what = || format!("Reading {device}");
        let mut disk = File::open(device).during(what)?;
        let length = disk.seek(SeekFrom::End(0)).during(what)?;
        let mut superblock = [0; SUPERBLOCK.1];
        disk.read_exact_at(&mut superblock, SUPERBLOCK.0).during(what)?;
        Self::parse(&superblock, length).ok_or_else(|| {
            Failure::new(format!("{device} has no ext4 with blocks of 1 to 4 KiB on it"))
        })
    }

    fn parse(superblock: &[u8], disk_bytes: u64) -> Option<Self> {
        let u32_at = |at: usize| {
            let bytes = superblock.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let magic = u32_at(0x38)? & 0xffff;
        let log_block_size = u32_at(0x18)?;
        let features = u32_at(0x60)?;
        let high = if features & SIXTY_FOUR_BIT != 0 { u32_at(0x150)? } else { 0 };
        let blocks_per_group = u64::from(u32_at(0x20)?);
        if magic != MAGIC || log_block_size > 2 || blocks_per_group == 0 {
            return None;
        }
        let block_bytes = 1024 << log_block_size;
        Some(Self {
            blocks: u64::from(high) << 32 | u64::from(u32_at(0x4)?),
            disk_blocks: disk_bytes / block_bytes,
            block_bytes,
            blocks_per_group,
            // The copy of the journal inode's size.
            journal_blocks: u64::from(u32_at(0x14c)?) / block_bytes,
            state: u32_at(0x38)? >> 16,
            features,
        })
    }

    /// It was unmounted, and no error is known.
    pub(super) fn is_clean(&self) -> bool {
        self.state & (VALID | ERRORS) == VALID && self.features & RECOVER == 0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn superblock() -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK.1];
        let mut put =
            |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0x4, 65_536);
        put(0x18, 2);
        put(0x20, 32_768);
        put(0x38, 0x1_EF53);
        put(0x14c, 4 << 20);
        bytes
    }

    pub(crate) fn parsed() -> Superblock {
        Superblock::parse(&superblock(), 65_536 * 4096).unwrap()
    }

    #[test]
    fn it_has_the_measures_of_filesystem_and_disk() {
        let found = Superblock::parse(&superblock(), 100_000 * 4096).unwrap();
        assert_eq!((found.blocks, found.disk_blocks), (65_536, 100_000));
        assert_eq!((found.blocks_per_group, found.journal_blocks), (32_768, 1024));
        let mut small = superblock();
        small[0x18..0x1c].fill(0);
        let found = Superblock::parse(&small, 100_000 * 4096).unwrap();
        assert_eq!((found.block_bytes, found.disk_blocks), (1024, 400_000));
        assert_eq!(found.journal_blocks, 4096);
    }

    #[test]
    fn what_is_no_ext4_has_none() {
        for at in [0x20, 0x38] {
            let mut bytes = superblock();
            bytes[at..at + 4].fill(0);
            assert_eq!(Superblock::parse(&bytes, 1), None, "{at:#x}");
        }
        let mut large = superblock();
        large[0x18] = 6;
        assert_eq!(Superblock::parse(&large, 1), None);
        assert_eq!(Superblock::parse(&[0; 16], 1), None);
    }

    #[test]
    fn clean_is_unmounted_without_errors_and_without_a_journal_to_replay() {
        assert!(parsed().is_clean());
        for (at, bits) in [(0x3a, 0), (0x3a, 3), (0x60, 0x4)] {
            let mut bytes = superblock();
            bytes[at] = bits;
            assert!(!Superblock::parse(&bytes, 1 << 30).unwrap().is_clean(), "{at:#x} {bits}");
        }
    }
}
