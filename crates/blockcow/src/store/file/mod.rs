//! A store in one file that survives a crash at any point.
//!
//! ```text
//!  slot 0, 1        superblocks, written in turn
//!  other slots      data of one block | snapshot of the map | journal | free
//!
//!  write:      data into free slots ─► record (block → slot, checksum) at the journal's end
//!  flush:      sync ─► superblock: "records up to n are durable"
//!  checkpoint: snapshot, new journal ─► sync ─► superblock that refers to them ─► sync
//!              (when the journal is full: it is as large as the snapshot, 1 to 16 MiB)
//! ```
//!
//! All slots have 4 KiB. A slot in use is never overwritten, and one that came free is not used
//! before a superblock is durable that says that the record which freed it is. So whatever part of
//! the writes since the last sync a crash leaves, in whatever order: the records up to the
//! superblock's number are whole, and of those after it the ones are taken that are whole
//! themselves, up to the first that is not. Each is bound to the one before by its checksum, and
//! each opening adds one with a number of its own, so that records that a crash cut off never come
//! back.
//!
//! Every block is checked against its checksum when it is read. A file that is shorter than its
//! superblock says, or whose tables have changed, is refused when it is opened.
//!
//! In memory a block takes 8 bytes in the map: 2 MiB for each dirty GiB (at worst, with blocks far
//! from each other, 4 KiB for a block; see [`crate::limits::MAX_STORE_MAP_BYTES`]); and one bit for
//! each slot of the file: 32 KiB for each GiB.
//!
//! After a sync that failed nobody knows what is durable, because Linux may have dropped what it
//! could not write: from then on every change and every flush fails
//! ([`StoreError::Broken`](super::StoreError::Broken)), reads go on, and opening the file anew
//! finds out.
//!
//! The file is locked (flock, which holds for the file itself by whatever name) as long as the
//! store or a call of it lives.

mod block_map;
mod compact;
mod io;
mod journal;
mod open;
mod recover;
mod slots;
mod superblock;
mod writer;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt, ready};
use futures::stream::{self, StreamExt};

use super::{BlockChunk, BlockStore, Listing, StoreContext, StoreError};
use block_map::{BlockMap, Place};
use io::StoreFile;
use writer::Writer;

pub use open::FileStoreError;

/// Bytes of a block, and of a slot.
const BLOCK: usize = 4096;

/// Bytes of a slot.
const SLOT: u64 = BLOCK as u64;

/// Blocks of one batch of a listing.
const LISTED: usize = 64 << 10;

/// How often a block is looked for while it moves.
const TRIES: usize = 16;

/// A store in one file. See the module for what it guarantees.
#[derive(Clone)]
pub struct FileStore {
    shared: Arc<Shared>,
}

struct Shared {
    file: Arc<dyn StoreFile>,
    path: PathBuf,
    map: Arc<RwLock<BlockMap>>,
    writer: Mutex<Writer>,
}

/// How large a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStoreSize {
    /// Blocks that are present and not zeros.
    pub blocks: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// What the file takes on its disk.
    pub allocated_bytes: u64,
}

impl FileStore {
    /// The name that it was opened by.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// How large it is. Blocks the thread.
    pub fn size(&self) -> Result<FileStoreSize, StoreError> {
        let (file_bytes, allocated_bytes) = self.shared.file.size()?;
        let blocks = self.shared.map.read().unwrap_or_else(PoisonError::into_inner).data_blocks();
        Ok(FileStoreSize { blocks, file_bytes, allocated_bytes })
    }

    /// Size that the disk was given beyond its base's, if it was; a multiple of 1 MiB.
    pub fn disk_bytes(&self) -> Option<u64> {
        match self.shared.writer().superblock.disk_mib {
            0 => None,
            mib => Some(u64::from(mib) << 20),
        }
    }

    /// Keeps the size of the disk, so that a later opener knows it. It is durable afterwards. Whole
    /// MiB; less is cut off. Blocks the thread.
    pub fn set_disk_bytes(&self, bytes: u64) -> Result<(), StoreError> {
        let mib = u32::try_from(bytes >> 20).map_err(std::io::Error::other)?;
        self.shared.writer().set_disk_mib(mib)
    }

    /// Moves blocks to the front of the file and cuts it, so that it takes little more than its
    /// blocks do. Crash-safe; writes wait meanwhile, reads do not. Blocks the thread.
    pub fn compact(&self) -> Result<FileStoreSize, StoreError> {
        self.shared.writer().compact()?;
        self.size()
    }

    /// Changes the file on a thread that may wait. A call that is dropped before its turn changes
    /// nothing any more: by then a later one may have changed the same blocks.
    fn changing(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<(), StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let given_up = GivenUp::default();
        let flag = given_up.0.clone();
        let done = self.blocking(move |shared| {
            let mut writer = shared.writer();
            if flag.load(Ordering::Acquire) { Err(StoreError::TimedOut) } else { work(&mut writer) }
        });
        async move {
            let _given_up = given_up;
            done.await
        }
        .boxed()
    }

    /// Runs work on a thread that may wait.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let done = tokio::task::spawn_blocking(move || work(&shared)).await;
            done.unwrap_or(Err(StoreError::Broken))
        }
        .boxed()
    }
}

/// Set when it is dropped.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FileStore").field("path", &self.shared.path).finish()
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        match self.writer.lock() {
            Ok(writer) => writer,
            Err(poisoned) => {
                // What it was doing when it panicked is not known.
                let mut writer = poisoned.into_inner();
                writer.give_up();
                writer
            }
        }
    }

    fn places(&self, range: Range<u64>) -> Vec<(u64, Place)> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        range.map(|block| (block, map.get(block))).collect()
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<BlockChunk>, StoreError> {
        let mut data =
            BytesMut::zeroed(BLOCK * usize::try_from(range.end - range.start).unwrap_or(0));
        let mut left = self.places(range.clone());
        let mut present = Vec::new();
        for _ in 0..TRIES {
            let read = |part: &mut [u8], at| self.file.read_at_most(part, at);
            let found = read_places(&left, range.start, &mut data, read)?;
            present.extend(found.present);
            if found.wrong.is_empty() {
                present.sort_unstable();
                return Ok(chunks(&present, range.start, &data.freeze()));
            }
            left = Vec::new();
            for (block, place) in found.wrong {
                match self.places(block..block + 1)[..] {
                    // Overwritten meanwhile, and its slot used for another.
                    [(_, now)] if now != place => left.push((block, now)),
                    _ => return Err(StoreError::Damaged { block }),
                }
            }
        }
        Err(StoreError::Damaged { block: left.first().map_or(range.start, |(block, _)| *block) })
    }

    /// What [`Shared::read`] gives, if all of it is in memory and as it was written.
    fn read_at_once(&self, range: Range<u64>) -> Option<Vec<BlockChunk>> {
        let length = usize::try_from(range.end - range.start).ok()?.checked_mul(BLOCK)?;
        let mut data = BytesMut::zeroed(length);
        let places = self.places(range.clone());
        let read = |part: &mut [u8], at| {
            let done = self.file.read_at_once(part, at);
            done.then_some(()).ok_or_else(|| std::io::ErrorKind::WouldBlock.into())
        };
        let mut found = read_places(&places, range.start, &mut data, read).ok()?;
        found.present.sort_unstable();
        let whole = found.wrong.is_empty();
        whole.then(|| chunks(&found.present, range.start, &data.freeze()))
    }
}

fn read_places(
    places: &[(u64, Place)],
    first: u64,
    data: &mut [u8],
    read: impl Fn(&mut [u8], u64) -> std::io::Result<()>,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let mut rest = places;
    while let Some(((block, place), _)) = rest.split_first() {
        let at = usize::try_from(block - first).unwrap_or(0) * BLOCK;
        let count = match place {
            Place::Absent => 1,
            Place::Zeros => {
                data[at..at + BLOCK].fill(0);
                found.present.push(*block);
                1
            }
            Place::Slot { slot, .. } => {
                // As many as lie side by side.
                let next = |(index, place): &(usize, &(u64, Place))| {
                    let index = *index as u64;
                    let beside = |other: u32| u64::from(other) == u64::from(*slot) + index;
                    place.0 == block + index
                        && matches!(place.1, Place::Slot { slot, .. } if beside(slot))
                };
                let count = rest.iter().enumerate().take_while(next).count();
                let part = &mut data[at..at + count * BLOCK];
                read(part, u64::from(*slot) * SLOT)?;
                for ((block, place), bytes) in rest.iter().zip(part.chunks(BLOCK)) {
                    match place {
                        Place::Slot { checksum, .. } if *checksum == crc32fast::hash(bytes) => {
                            found.present.push(*block);
                        }
                        _ => found.wrong.push((*block, *place)),
                    }
                }
                count
            }
        };
        rest = &rest[count..];
    }
    Ok(found)
}

#[derive(Default)]
struct Found {
    present: Vec<u64>,
    /// Blocks whose content is not the one that was written.
    wrong: Vec<(u64, Place)>,
}

/// Runs of the blocks that are present.
fn chunks(present: &[u64], first: u64, data: &Bytes) -> Vec<BlockChunk> {
    let mut chunks = Vec::new();
    let mut rest = present;
    while let Some(start) = rest.first() {
        let count = (*start..).zip(rest).take_while(|(number, block)| number == *block).count();
        let at = usize::try_from(start - first).unwrap_or(0) * BLOCK;
        chunks.push(BlockChunk { start: *start, data: data.slice(at..at + count * BLOCK) });
        rest = &rest[count..];
    }
    chunks
}

impl BlockStore for FileStore {
    fn block_size(&self) -> u32 {
        4096
    }

    fn discards(&self) -> bool {
        true
    }

    fn forgets_dropped(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, _: &'a StoreContext) -> Listing<'a> {
        stream::unfold(0, move |next| async move {
            let map = self.shared.map.read().unwrap_or_else(PoisonError::into_inner);
            let (runs, next) = map.list(next, LISTED)?;
            Some((Ok(runs), next))
        })
        .boxed()
    }

    fn read<'a>(
        &'a self,
        range: Range<u64>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<Vec<BlockChunk>, StoreError>> {
        // Two changes of thread take longer than reading what is in memory.
        match self.shared.read_at_once(range.clone()) {
            Some(chunks) => ready(Ok(chunks)).boxed(),
            None => self.blocking(move |shared| shared.read(range)),
        }
    }

    fn write<'a>(
        &'a self,
        chunks: Vec<BlockChunk>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.changing(move |writer| writer.write(&chunks))
    }

    fn write_zeroes<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.changing(move |writer| writer.mark(&ranges, Place::Zeros))
    }

    fn discard<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.changing(move |writer| writer.mark(&ranges, Place::Absent))
    }

    fn flush<'a>(&'a self, _: &'a StoreContext) -> BoxFuture<'a, Result<(), StoreError>> {
        self.changing(Writer::flush)
    }
}
