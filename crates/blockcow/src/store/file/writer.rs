//! Changing the file: one at a time.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use super::block_map::{BlockMap, Place};
use super::io::StoreFile;
use super::journal::{self, Change, ENTRY_BYTES, HEADER_BYTES, MAX_ENTRIES};
use super::slots::Slots;
use super::superblock::Superblock;
use super::{BLOCK, SLOT};
use crate::store::{BlockChunk, StoreError};

/// Smallest and largest journal.
pub(super) const JOURNAL_BYTES: (u64, u64) = (1 << 20, 16 << 20);

/// Free slots that may go on taking room, beside half as many as there are blocks: 16 MiB.
const SLACK: u64 = 4096;

pub(super) struct Writer {
    pub(super) file: Arc<dyn StoreFile>,
    pub(super) map: Arc<RwLock<BlockMap>>,
    pub(super) slots: Slots,
    /// The latest one.
    pub(super) superblock: Superblock,
    /// Bytes of the journal that are written.
    pub(super) position: u64,
    /// Number and checksum of the latest record.
    pub(super) record: u64,
    pub(super) chain: u32,
    /// Slots that records since the last flush have freed.
    pub(super) freed: Vec<u32>,
    /// Those that records before that have; the superblock that says that these are durable has
    /// been written, but not synced.
    pub(super) settling: Vec<u32>,
    /// Released since holes were punched last.
    pub(super) unpunched: u64,
    /// Something was written since the last sync.
    pub(super) changed: bool,
    pub(super) broken: bool,
    pub(super) least_journal: u64,
}

impl Writer {
    pub(super) fn new(
        file: Arc<dyn StoreFile>,
        map: Arc<RwLock<BlockMap>>,
        superblock: Superblock,
    ) -> Self {
        Self {
            file,
            map,
            slots: Slots::default(),
            position: 0,
            record: superblock.first.saturating_sub(1),
            chain: superblock.seed,
            superblock,
            freed: Vec::new(),
            settling: Vec::new(),
            unpunched: 0,
            changed: false,
            broken: false,
            least_journal: JOURNAL_BYTES.0,
        }
    }

    /// From now on it is not known what is durable.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.broken { Err(StoreError::Broken) } else { Ok(()) }
    }

    pub(super) fn write(&mut self, chunks: &[BlockChunk]) -> Result<(), StoreError> {
        self.check()?;
        let blocks: Vec<(u64, &[u8])> = chunks
            .iter()
            .flat_map(|chunk| (chunk.start..).zip(chunk.data.chunks_exact(BLOCK)))
            .collect();
        blocks.chunks(MAX_ENTRIES).try_for_each(|blocks| self.write_blocks(blocks, u32::MAX))
    }

    /// Writes blocks into free slots below `limit`.
    pub(super) fn write_blocks(
        &mut self,
        blocks: &[(u64, &[u8])],
        limit: u32,
    ) -> Result<(), StoreError> {
        let count = u32::try_from(blocks.len()).map_err(std::io::Error::other)?;
        let runs = self.slots.allocate(count, limit).ok_or(StoreError::NoSpace)?;
        let written = self.write_runs(blocks, &runs).and_then(|changes| self.append(&changes));
        if written.is_err() {
            runs.into_iter().for_each(|run| self.slots.release(run));
        }
        written
    }

    fn write_runs(
        &self,
        blocks: &[(u64, &[u8])],
        runs: &[Range<u32>],
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::with_capacity(blocks.len());
        let mut rest = blocks;
        for run in runs {
            let (part, tail) = rest.split_at(run.len());
            let mut bytes = Vec::with_capacity(part.len() * BLOCK);
            for ((block, data), slot) in part.iter().zip(run.clone()) {
                bytes.extend_from_slice(data);
                let place = Place::Slot { slot, checksum: crc32fast::hash(data) };
                changes.push(Change { block: *block, count: 1, place });
            }
            self.file.write_all_at(&bytes, u64::from(run.start) * SLOT)?;
            rest = tail;
        }
        Ok(changes)
    }

    /// Makes blocks zero or absent.
    pub(super) fn mark(&mut self, ranges: &[Range<u64>], place: Place) -> Result<(), StoreError> {
        self.check()?;
        let mut changes = Vec::new();
        for range in ranges {
            let mut start = range.start;
            while start < range.end {
                let count = u32::try_from(range.end - start).unwrap_or(u32::MAX);
                changes.push(Change { block: start, count, place });
                start += u64::from(count);
            }
        }
        changes.chunks(MAX_ENTRIES).try_for_each(|changes| self.append(changes))
    }

    /// Writes a record, and then does what it says to the map.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if !self.map.read().unwrap_or_else(PoisonError::into_inner).has_room(changes) {
            return Err(StoreError::NoSpace);
        }
        let length = (HEADER_BYTES + changes.len() * ENTRY_BYTES) as u64;
        if self.position + length > journal_bytes(&self.superblock) {
            self.checkpoint()?;
        }
        let number = self.record + 1;
        let (bytes, checksum) = journal::encode(changes, number, self.chain);
        let start = u64::from(self.superblock.journal.start) * SLOT;
        // After a failure the next record takes the same place.
        self.file.write_all_at(&bytes, start + self.position)?;
        self.changed = true;
        self.position += length;
        self.record = number;
        self.chain = checksum;
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            map.apply(change, |slot| self.freed.push(slot));
        }
        Ok(())
    }

    /// Makes durable what was written.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if !self.changed {
            return Ok(());
        }
        self.sync()?;
        // What this sync has made durable includes the superblock before.
        let settled = std::mem::take(&mut self.settling);
        self.release(settled);
        self.settling = std::mem::take(&mut self.freed);
        let mut superblock = self.superblock.clone();
        superblock.durable = self.record;
        self.write_superblock(superblock)?;
        self.changed = false;
        self.punch_if_much();
        Ok(())
    }

    /// Keeps the disk's size, durably.
    pub(super) fn set_disk_mib(&mut self, disk_mib: u32) -> Result<(), StoreError> {
        self.flush()?;
        // The superblock before must be durable: the next one takes the place of the one before it.
        self.sync()?;
        self.write_superblock(Superblock { disk_mib, ..self.superblock.clone() })?;
        self.sync()
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        let synced = self.file.sync();
        self.broken |= synced.is_err();
        Ok(synced?)
    }

    fn write_superblock(&mut self, mut superblock: Superblock) -> Result<(), StoreError> {
        superblock.number += 1;
        let written = self.file.write_all_at(&superblock.encode(), superblock.offset());
        self.broken |= written.is_err();
        written?;
        self.superblock = superblock;
        Ok(())
    }

    pub(super) fn release(&mut self, slots: Vec<u32>) {
        self.unpunched += slots.len() as u64;
        slots.into_iter().for_each(|slot| self.slots.release(slot..slot + 1));
    }

    /// Writes the whole map, and begins a new journal. Everything is durable then.
    pub(super) fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let entries = {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            merged(&map).count() as u64
        };
        let bytes = entries * ENTRY_BYTES as u64;
        let journal_bytes =
            bytes.clamp(self.least_journal, JOURNAL_BYTES.1.max(self.least_journal));
        let snapshot = self.slots.allocate_run(slots_for(bytes)).ok_or(StoreError::NoSpace)?;
        let Some(journal) = self.slots.allocate_run(slots_for(journal_bytes)) else {
            self.slots.release(snapshot);
            return Err(StoreError::NoSpace);
        };
        let reserved = self
            .file
            .reserve(u64::from(journal.start) * SLOT, journal.len() as u64 * SLOT)
            .map_err(StoreError::from);
        let checksum = match reserved.and_then(|()| self.write_snapshot(&snapshot)) {
            Ok(checksum) => checksum,
            Err(error) => {
                self.slots.release(snapshot);
                self.slots.release(journal);
                return Err(error);
            }
        };
        self.sync()?;
        let old = self.superblock.clone();
        self.write_superblock(Superblock {
            snapshot,
            snapshot_entries: entries,
            snapshot_checksum: checksum,
            journal,
            seed: seed(),
            first: self.record + 1,
            durable: self.record,
            ..old.clone()
        })?;
        self.sync()?;
        self.slots.release(old.snapshot);
        self.slots.release(old.journal);
        let settled = [std::mem::take(&mut self.settling), std::mem::take(&mut self.freed)];
        settled.into_iter().for_each(|slots| self.release(slots));
        self.position = 0;
        self.chain = self.superblock.seed;
        self.changed = false;
        Ok(())
    }

    fn write_snapshot(&self, slots: &Range<u32>) -> Result<u32, StoreError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let mut offset = u64::from(slots.start) * SLOT;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = Vec::with_capacity(1 << 20);
        let mut entries = merged(&map).peekable();
        while let Some(entry) = entries.next() {
            buffer.extend(entry.encode());
            if buffer.len() >= 1 << 20 || entries.peek().is_none() {
                hasher.update(&buffer);
                self.file.write_all_at(&buffer, offset)?;
                offset += buffer.len() as u64;
                buffer.clear();
            }
        }
        Ok(hasher.finalize())
    }

    /// Gives back the room of free slots, when it is much.
    fn punch_if_much(&mut self) {
        let blocks = self.map.read().unwrap_or_else(PoisonError::into_inner).data_blocks();
        if self.unpunched > SLACK + blocks / 2 && u64::from(self.slots.free()) > SLACK {
            // It only costs room when it fails.
            let _ = self.punch();
        }
    }

    pub(super) fn punch(&mut self) -> Result<(), StoreError> {
        self.unpunched = 0;
        for run in self.slots.free_runs() {
            self.file.punch(u64::from(run.start) * SLOT, run.len() as u64 * SLOT)?;
        }
        Ok(())
    }
}

/// A number that no other journal began with, in all likelihood.
pub(super) fn seed() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let random = RandomState::new().build_hasher().finish();
    u32::try_from(random >> 32).expect("the upper half")
}

pub(super) fn journal_bytes(superblock: &Superblock) -> u64 {
    superblock.journal.len() as u64 * SLOT
}

fn slots_for(bytes: u64) -> u32 {
    // Beyond what a file can have, where the allocation fails.
    u32::try_from(bytes.div_ceil(SLOT)).unwrap_or(u32::MAX)
}

/// The map as changes, with runs of zeros as one.
fn merged(map: &BlockMap) -> impl Iterator<Item = Change> {
    let mut entries = map.iter().peekable();
    std::iter::from_fn(move || {
        let (block, place) = entries.next()?;
        let mut count = 1;
        if place == Place::Zeros {
            let next = |count: u32| (block + u64::from(count), Place::Zeros);
            while count < u32::MAX && entries.next_if_eq(&next(count)).is_some() {
                count += 1;
            }
        }
        Some(Change { block, count, place })
    })
}
