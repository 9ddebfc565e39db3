//! The superblock: where everything starts. Two slots, written in turn; the newer valid one counts.
//!
//! ```text
//!  magic 8 | version 4 | checksum 4 | number 8 | snapshot: slot 4, slots 4, entries 8, checksum 4
//!  | journal: slot 4, slots 4, seed 4, first record 8 | durable record 8 | length of the base 4
//!  | size of the disk in MiB 4 | base | zeros up to 4096
//! ```

use std::ops::Range;

use super::SLOT;
use super::open::FileStoreError;

const MAGIC: [u8; 8] = *b"LANEBLK\n";
const VERSION: u32 = 1;
const FIXED: usize = 80;

/// Most bytes of a base's identity.
pub(super) const MAX_BASE_BYTES: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Larger for each that is written.
    pub(super) number: u64,
    pub(super) snapshot: Range<u32>,
    pub(super) snapshot_entries: u64,
    pub(super) snapshot_checksum: u32,
    pub(super) journal: Range<u32>,
    /// What the first record names as the checksum before it.
    pub(super) seed: u32,
    /// Number of the first record.
    pub(super) first: u64,
    /// Records up to this number are whole, with their data.
    pub(super) durable: u64,
    /// What the disk was grown to, in MiB; 0 for the size of its base.
    pub(super) disk_mib: u32,
    pub(super) base: String,
}

/// Why a slot holds no superblock.
pub(super) enum Invalid {
    NotOne,
    Version(u32),
    Damaged,
}

impl Superblock {
    pub(super) fn offset(&self) -> u64 {
        self.number % 2 * SLOT
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.snapshot.start.to_le_bytes());
        bytes.extend((self.snapshot.end - self.snapshot.start).to_le_bytes());
        bytes.extend(self.snapshot_entries.to_le_bytes());
        bytes.extend(self.snapshot_checksum.to_le_bytes());
        bytes.extend(self.journal.start.to_le_bytes());
        bytes.extend((self.journal.end - self.journal.start).to_le_bytes());
        bytes.extend(self.seed.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.durable.to_le_bytes());
        let base = u32::try_from(self.base.len()).expect("at most MAX_BASE_BYTES");
        bytes.extend(base.to_le_bytes());
        bytes.extend(self.disk_mib.to_le_bytes());
        debug_assert_eq!(bytes.len(), FIXED);
        bytes.extend(self.base.as_bytes());
        bytes.resize(4096, 0);
        let checksum = checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; 4096]) -> Result<Self, Invalid> {
        if bytes[..8] != MAGIC {
            return Err(Invalid::NotOne);
        }
        let word =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(12) != checksum(bytes) {
            return Err(Invalid::Damaged);
        }
        if word(8) != VERSION {
            return Err(Invalid::Version(word(8)));
        }
        let run = |at: usize| Some(word(at)..word(at).checked_add(word(at + 4))?);
        let base = bytes[FIXED..].get(..word(72) as usize).ok_or(Invalid::Damaged)?;
        Ok(Self {
            number: long(16),
            snapshot: run(24).ok_or(Invalid::Damaged)?,
            snapshot_entries: long(32),
            snapshot_checksum: word(40),
            journal: run(44).ok_or(Invalid::Damaged)?,
            seed: word(52),
            first: long(56),
            durable: long(64),
            disk_mib: word(76),
            base: String::from_utf8(base.to_vec()).map_err(|_| Invalid::Damaged)?,
        })
    }

    /// The newer valid one of the two.
    pub(super) fn choose(slots: [&[u8; 4096]; 2]) -> Result<Self, FileStoreError> {
        match slots.map(Self::decode) {
            [Ok(one), Ok(other)] => Ok(if one.number > other.number { one } else { other }),
            [Ok(one), Err(_)] | [Err(_), Ok(one)] => Ok(one),
            [Err(Invalid::Version(version)), _] | [_, Err(Invalid::Version(version))] => {
                Err(FileStoreError::Version(version))
            }
            [Err(Invalid::NotOne), Err(Invalid::NotOne)] => Err(FileStoreError::NotAStore),
            _ => Err(FileStoreError::Damaged("the superblocks")),
        }
    }
}

/// Over everything but itself.
fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}
