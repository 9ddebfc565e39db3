//! Records of changes to the map, and the snapshots they start from.
//!
//! ```text
//!  record    magic 4 | entries 4 | number 8 | checksum of the record before 4 | checksum 4 | entry…
//!  snapshot  entry…
//!  entry     block 8 | slot 4 | checksum of the data 4          (slot 0: absent, 2^32-1: zeros;
//!                                                                then the length of a run)
//! ```
//! All numbers are little-endian.

use std::ops::Range;

use super::block_map::{Place, ZEROS};

const MAGIC: u32 = u32::from_le_bytes(*b"LBJ1");
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const ENTRY_BYTES: usize = 16;

/// Most entries of a record: several fit into the smallest journal.
pub(super) const MAX_ENTRIES: usize = 1024;

/// A change of the map: a block, or a run of them if it has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) block: u64,
    pub(super) count: u32,
    pub(super) place: Place,
}

impl Change {
    /// The blocks that it changes.
    pub(super) fn blocks(&self) -> Range<u64> {
        self.block..self.block + u64::from(self.count)
    }

    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let (slot, value) = match self.place {
            Place::Absent => (0, self.count),
            Place::Zeros => (ZEROS, self.count),
            Place::Slot { slot, checksum } => (slot, checksum),
        };
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.block.to_le_bytes());
        bytes[8..12].copy_from_slice(&slot.to_le_bytes());
        bytes[12..].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    /// Nothing for a run that ends beyond all numbers.
    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let block = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        let (slot, value) = (u32_at(bytes, 8), u32_at(bytes, 12));
        let (count, place) = match slot {
            0 => (value, Place::Absent),
            ZEROS => (value, Place::Zeros),
            slot => (1, Place::Slot { slot, checksum: value }),
        };
        block.checked_add(u64::from(count))?;
        Some(Self { block, count, place })
    }
}

/// A record that is whole.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) changes: Vec<Change>,
    pub(super) checksum: u32,
    pub(super) length: usize,
}

/// A record, and its checksum.
pub(super) fn encode(changes: &[Change], number: u64, chain: u32) -> (Vec<u8>, u32) {
    let count = u32::try_from(changes.len()).expect("at most MAX_ENTRIES");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + changes.len() * ENTRY_BYTES);
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(chain.to_le_bytes());
    bytes.extend([0; 4]);
    changes.iter().for_each(|change| bytes.extend(change.encode()));
    let checksum = checksum(&bytes);
    bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
    (bytes, checksum)
}

/// The record at the front of these bytes, if it is this one and whole.
pub(super) fn decode(bytes: &[u8], number: u64, chain: u32) -> Option<Record> {
    let header = bytes.get(..HEADER_BYTES)?;
    let count = u32_at(header, 4) as usize;
    if u32_at(header, 0) != MAGIC || count > MAX_ENTRIES || u32_at(header, 16) != chain {
        return None;
    }
    if header[8..16] != number.to_le_bytes() {
        return None;
    }
    let length = HEADER_BYTES + count * ENTRY_BYTES;
    let record = bytes.get(..length)?;
    if checksum(record) != u32_at(header, 20) {
        return None;
    }
    let (entries, _) = record[HEADER_BYTES..].as_chunks();
    let changes = entries.iter().map(Change::decode).collect::<Option<_>>()?;
    Some(Record { changes, checksum: u32_at(header, 20), length })
}

/// Over everything but itself.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..20]);
    hasher.update(&record[HEADER_BYTES..]);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
