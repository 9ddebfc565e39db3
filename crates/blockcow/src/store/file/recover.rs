//! From what is in a file to a store: the newer superblock, its snapshot, and the records after it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use super::block_map::{BlockMap, MAX_PIECES, PIECE, Place};
use super::io::StoreFile;
use super::journal::{self, Change, ENTRY_BYTES, Record};
use super::open::FileStoreError;
use super::superblock::Superblock;
use super::writer::{JOURNAL_BYTES, Writer, journal_bytes, seed};
use super::{BLOCK, FileStore, SLOT, Shared};
use crate::limits::MAX_DISK_BYTES;

/// Most entries of a snapshot: one for each place in the largest map.
const MAX_ENTRIES: u64 = MAX_PIECES * PIECE;

const SNAPSHOT: FileStoreError = FileStoreError::Damaged("the snapshot");

impl FileStore {
    /// Makes an empty file a store.
    pub(super) fn format(file: &Arc<dyn StoreFile>, base: &str) -> Result<(), FileStoreError> {
        let superblock = Superblock {
            number: 0,
            snapshot: 2..2,
            snapshot_entries: 0,
            snapshot_checksum: 0,
            journal: 2..2,
            seed: seed(),
            first: 1,
            durable: 0,
            disk_mib: 0,
            base: base.to_owned(),
        };
        let mut writer = Writer::new(Arc::clone(file), Arc::default(), superblock);
        writer.slots.take(0);
        writer.slots.take(1);
        Ok(writer.checkpoint()?)
    }

    /// Opens a store and finds out what is in it.
    pub(super) fn recover(
        file: Arc<dyn StoreFile>,
        path: PathBuf,
        base: &str,
    ) -> Result<Self, FileStoreError> {
        let superblock = read_superblock(&*file)?;
        if superblock.base != base {
            let expected = base.to_owned();
            return Err(FileStoreError::WrongBase { expected, found: superblock.base });
        }
        let (length, _) = file.size()?;
        let mut map = BlockMap::default();
        read_snapshot(&*file, &superblock, length, &mut map)?;
        let mut writer = Writer::new(Arc::clone(&file), Arc::default(), superblock);
        replay(&mut writer, length, &mut map)?;
        occupy(&mut writer, length, &map)?;
        let map = Arc::new(RwLock::new(map));
        writer.map = Arc::clone(&map);
        // A record of its own for this opening: whatever follows in the journal is not its
        // successor. Block numbers do not reach this far, and nothing is absent more than once.
        let own = Change { block: u64::from(seed()) << 31, count: 0, place: Place::Absent };
        writer.append(&[own])?;
        writer.flush()?;
        // What earlier records have freed is free from here on: nothing may need them any more.
        writer.sync()?;
        Ok(Self { shared: Arc::new(Shared { file, path, map, writer: Mutex::new(writer) }) })
    }
}

fn read_superblock(file: &dyn StoreFile) -> Result<Superblock, FileStoreError> {
    let (mut one, mut other) = ([0; BLOCK], [0; BLOCK]);
    file.read_at_most(&mut one, 0)?;
    file.read_at_most(&mut other, SLOT)?;
    Superblock::choose([&one, &other])
}

fn read_snapshot(
    file: &dyn StoreFile,
    superblock: &Superblock,
    length: u64,
    map: &mut BlockMap,
) -> Result<(), FileStoreError> {
    let end = u64::from(superblock.snapshot.end.max(superblock.journal.end)) * SLOT;
    if end > length {
        return Err(FileStoreError::Truncated { needed: end, length });
    }
    let bytes = superblock.snapshot_entries.checked_mul(ENTRY_BYTES as u64).ok_or(SNAPSHOT)?;
    if bytes > superblock.snapshot.len() as u64 * SLOT {
        return Err(SNAPSHOT);
    }
    if superblock.snapshot_entries > MAX_ENTRIES {
        return Err(FileStoreError::MapTooLarge);
    }
    // The checksum first: a damaged run could be of any length.
    let mut hasher = crc32fast::Hasher::new();
    read_parts(file, superblock, bytes, |part| {
        hasher.update(part);
        Ok(())
    })?;
    if hasher.finalize() != superblock.snapshot_checksum {
        return Err(SNAPSHOT);
    }
    read_parts(file, superblock, bytes, |part| {
        let (entries, _) = part.as_chunks();
        for entry in entries {
            apply(map, &Change::decode(entry).ok_or(SNAPSHOT)?)?;
        }
        Ok(())
    })
}

/// Gives the snapshot's bytes in parts of whole entries.
fn read_parts(
    file: &dyn StoreFile,
    superblock: &Superblock,
    bytes: u64,
    mut take: impl FnMut(&[u8]) -> Result<(), FileStoreError>,
) -> Result<(), FileStoreError> {
    let start = u64::from(superblock.snapshot.start) * SLOT;
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(1 << 20)];
    let mut done = 0;
    while done < bytes {
        let count = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(buffer.len());
        let part = &mut buffer[..count];
        file.read_at_most(part, start + done)?;
        take(part)?;
        done += count as u64;
    }
    Ok(())
}

fn apply(map: &mut BlockMap, change: &Change) -> Result<(), FileStoreError> {
    if change.count > 0 && change.blocks().end > MAX_DISK_BYTES / SLOT {
        return Err(FileStoreError::Damaged("the map: a block is beyond all disks"));
    }
    if !map.has_room(std::slice::from_ref(change)) {
        return Err(FileStoreError::MapTooLarge);
    }
    map.apply(change, |_| ());
    Ok(())
}

/// Does what the journal says, as far as it is whole.
fn replay(writer: &mut Writer, length: u64, map: &mut BlockMap) -> Result<(), FileStoreError> {
    let superblock = &writer.superblock;
    let journal = Some(journal_bytes(superblock)).filter(|bytes| *bytes <= JOURNAL_BYTES.1);
    let journal = journal.and_then(|bytes| usize::try_from(bytes).ok());
    let mut bytes = vec![0; journal.ok_or(FileStoreError::Damaged("the superblock"))?];
    writer.file.read_at_most(&mut bytes, u64::from(superblock.journal.start) * SLOT)?;
    let durable = superblock.durable;
    let mut at = 0;
    while let Some(record) = journal::decode(&bytes[at..], writer.record + 1, writer.chain) {
        // The data of later records may have been cut off, or not have come in time.
        if writer.record >= durable && !is_whole(&*writer.file, &record, length)? {
            break;
        }
        record.changes.iter().try_for_each(|change| apply(map, change))?;
        writer.record += 1;
        writer.chain = record.checksum;
        at += record.length;
    }
    writer.position = at as u64;
    if writer.record < durable { Err(FileStoreError::Damaged("the journal")) } else { Ok(()) }
}

/// Whether the data that a record speaks of is there.
fn is_whole(file: &dyn StoreFile, record: &Record, length: u64) -> Result<bool, FileStoreError> {
    let mut bytes = [0; BLOCK];
    for change in &record.changes {
        let Place::Slot { slot, checksum } = change.place else { continue };
        if (u64::from(slot) + 1) * SLOT > length {
            return Ok(false);
        }
        file.read_at_most(&mut bytes, u64::from(slot) * SLOT)?;
        if crc32fast::hash(&bytes) != checksum {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Marks the slots that are in use.
fn occupy(writer: &mut Writer, length: u64, map: &BlockMap) -> Result<(), FileStoreError> {
    let tables = [writer.superblock.snapshot.clone(), writer.superblock.journal.clone()];
    let data = map.iter().filter_map(|(_, place)| match place {
        Place::Slot { slot, .. } => Some(slot),
        Place::Absent | Place::Zeros => None,
    });
    for slot in (0..2).chain(tables.into_iter().flatten()).chain(data) {
        let needed = (u64::from(slot) + 1) * SLOT;
        if needed > length {
            return Err(FileStoreError::Truncated { needed, length });
        }
        if !writer.slots.take(slot) {
            return Err(FileStoreError::Damaged("the map: two blocks share a slot"));
        }
    }
    Ok(())
}
