//! The way of a read: what is in memory at once, the rest by blocking threads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use futures::{StreamExt, stream};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{Base, Layout, Place};
use crate::error::ReadError;
use crate::limits::{FETCHES_PER_READ, SECTOR_BYTES};
use crate::target::ReadTarget;

/// What was fetched.
enum Piece {
    Zeros(usize),
    Owned(Vec<u8>),
    /// A part of a block that is kept for others.
    Shared(Arc<Box<[u8]>>, Range<usize>),
}

impl Base {
    /// Fills the target from `offset` on, inside the base.
    pub(crate) async fn read(
        &self,
        offset: u64,
        target: &mut impl ReadTarget,
    ) -> Result<(), ReadError> {
        let end = offset + target.remaining() as u64;
        let mut position = offset;
        while position < end {
            match self.put_ready(position, end, target)? {
                0 => break,
                count => position += count,
            }
        }
        if position == end {
            return Ok(());
        }
        let mut pieces = stream::iter(self.blocks(position..end))
            .map(|range| self.fetch(range))
            .buffered(FETCHES_PER_READ);
        while let Some(piece) = pieces.next().await {
            match piece? {
                Piece::Zeros(count) => target.put_zeros(count)?,
                Piece::Owned(bytes) => target.put(&bytes)?,
                Piece::Shared(block, range) => target.put(&block[range])?,
            }
        }
        Ok(())
    }

    /// Fills the target with what is in memory at `position`; 0 when that is nothing.
    fn put_ready(
        &self,
        position: u64,
        end: u64,
        target: &mut impl ReadTarget,
    ) -> Result<u64, ReadError> {
        let Some((place, run)) = self.place(position) else { return Ok(0) };
        let length = to_usize(run.min(end - position));
        let count = match place {
            Place::Zeros => {
                target.put_zeros(length)?;
                length
            }
            Place::File(offset) => target.put_cached(&self.file, offset, length)?,
            Place::Compressed => {
                let Layout::Qcow2(image) = &self.layout else { return Ok(0) };
                let Some(block) = image.cached_block(position / self.block) else { return Ok(0) };
                let skip = to_usize(position % self.block);
                let count = length.min(block.len() - skip);
                target.put(&block[skip..skip + count])?;
                count
            }
        };
        Ok(count as u64)
    }

    /// Where the byte at `position` lies, and for how many bytes from there on that holds.
    /// Nothing when it takes reading a table to know.
    fn place(&self, position: u64) -> Option<(Place, u64)> {
        match &self.layout {
            Layout::Flat => Some((Place::File(position), self.size - position)),
            Layout::Qcow2(image) => image.cached_map(position).map(|map| map.place(position)),
        }
    }

    /// The first run of bytes of this range that may hold anything but zeros.
    pub(crate) async fn next_data(
        &self,
        range: Range<u64>,
    ) -> Result<Option<Range<u64>>, ReadError> {
        let end = range.end.min(self.size);
        let mut position = range.start;
        while position < end {
            let (place, run) = match &self.layout {
                Layout::Flat => self.extent(position, end),
                Layout::Qcow2(image) => image.map(position, &self.fetches).await?.place(position),
            };
            let run_end = position.saturating_add(run).min(end);
            if place != Place::Zeros {
                return Ok(Some(position..run_end));
            }
            position = run_end;
        }
        Ok(None)
    }

    /// What a raw image has from `position` on: its file may have holes.
    fn extent(&self, position: u64, end: u64) -> (Place, u64) {
        let (data, hole) = (SeekFrom::Data(position), SeekFrom::Hole(position));
        let sector = |at: u64| (at - at % SECTOR_BYTES).clamp(position, end);
        match seek(&*self.file, data) {
            Ok(next) if sector(next) > position => (Place::Zeros, sector(next) - position),
            Err(Errno::NXIO) => (Place::Zeros, end - position),
            // Whatever else is wrong, reading finds it out.
            Err(_) => (Place::File(position), end - position),
            Ok(_) => {
                let hole = seek(&*self.file, hole).unwrap_or(end);
                let hole = hole.next_multiple_of(SECTOR_BYTES).clamp(position + 1, end);
                (Place::File(position), hole - position)
            }
        }
    }

    /// Cuts a range at the borders of blocks.
    fn blocks(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let block = self.block;
        let mut start = range.start;
        std::iter::from_fn(move || {
            let begin = start;
            start = (begin - begin % block + block).min(range.end);
            (begin < range.end).then_some(begin..start)
        })
    }

    /// Brings a range inside one block into memory.
    async fn fetch(&self, range: Range<u64>) -> Result<Piece, ReadError> {
        let extents = match &self.layout {
            Layout::Flat => vec![(Place::File(range.start), to_usize(range.end - range.start))],
            Layout::Qcow2(image) => {
                let map = image.map(range.start, &self.fetches).await?;
                let extents = map.extents(range.clone());
                if extents.iter().any(|(place, _)| *place == Place::Compressed) {
                    let number = range.start / self.block;
                    let block = image.block_at(number, &self.fetches).await?;
                    let start = to_usize(range.start % self.block);
                    let end = start + to_usize(range.end - range.start);
                    return Ok(Piece::Shared(block, start..end));
                }
                extents
            }
        };
        if extents.iter().all(|(place, _)| *place == Place::Zeros) {
            return Ok(Piece::Zeros(to_usize(range.end - range.start)));
        }
        let file = Arc::clone(&self.file);
        blocking(&self.fetches, move || read_extents(&file, &extents)).await.map(Piece::Owned)
    }
}

fn read_extents(file: &File, extents: &[(Place, usize)]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; extents.iter().map(|(_, length)| length).sum()];
    let mut rest = &mut bytes[..];
    for (place, length) in extents {
        let (part, tail) = rest.split_at_mut(*length);
        if let Place::File(offset) = place {
            file.read_exact_at(part, *offset)?;
        }
        rest = tail;
    }
    Ok(bytes)
}

/// Runs a piece of work that may wait for a device, or panic, away from the calling thread.
pub(super) async fn blocking<T: Send + 'static>(
    fetches: &Arc<tokio::sync::Semaphore>,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ReadError> {
    let permit = Arc::clone(fetches).acquire_owned().await.map_err(|_| ReadError::Reader)?;
    let done = tokio::task::spawn_blocking(move || {
        let result = work();
        // Given back by the thread, so that abandoned reads count until they have ended.
        drop(permit);
        result
    });
    Ok(done.await.map_err(|_| ReadError::Reader)??)
}

/// Lengths inside one request or block.
pub(super) fn to_usize(length: u64) -> usize {
    usize::try_from(length).expect("a length within a buffer fits a usize")
}
