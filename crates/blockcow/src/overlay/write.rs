//! Writing: into memory, or through to the store.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::dirty::{Content, Held};
use super::read::to_usize;
use super::{Overlay, StoreCall, cost};
use crate::error::WriteError;
use crate::limits::{SECTOR_BYTES, WRITE_PIECE_BYTES};
use crate::source::WriteSource;
use crate::store::{BlockChunk, StoreError};

impl Overlay {
    pub(crate) async fn write(
        &self,
        offset: u64,
        source: &mut impl WriteSource,
    ) -> Result<(), WriteError> {
        let range = self.check_range(offset, source.remaining() as u64)?;
        for piece in pieces(range, self.piece_blocks() * self.block) {
            self.write_piece(piece, source).await?;
        }
        Ok(())
    }

    pub(super) fn check_range(&self, offset: u64, length: u64) -> Result<Range<u64>, WriteError> {
        if !offset.is_multiple_of(SECTOR_BYTES) || !length.is_multiple_of(SECTOR_BYTES) {
            return Err(WriteError::Unaligned { offset, length });
        }
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        let end = end.ok_or(WriteError::OutOfRange { offset, length })?;
        Ok(offset..end)
    }

    /// Blocks that are taken together: at most half of the budget, so that the other half can be
    /// on its way.
    fn piece_blocks(&self) -> u64 {
        let room = self.options.max_dirty_bytes / 2 / cost(self.block);
        (WRITE_PIECE_BYTES / self.block).min(room).max(1)
    }

    async fn write_piece(
        &self,
        range: Range<u64>,
        source: &mut impl WriteSource,
    ) -> Result<(), WriteError> {
        let blocks = range.start / self.block..range.end.div_ceil(self.block);
        let _turn = self.turns.take(blocks.clone()).await;
        let count = blocks.end - blocks.start;
        let through = self.store.writes_through();
        let room = if through { None } else { Some(self.room(count * cost(self.block)).await?) };
        let first = self.rest_of(blocks.start, &range).await?;
        let last = match blocks.end - 1 {
            only if only == blocks.start => None,
            last => self.rest_of(last, &range).await?,
        };
        let start = blocks.start * self.block;
        let mut bytes = vec![0; to_usize(count * self.block)];
        let block = to_usize(self.block);
        if let Some(rest) = first {
            bytes[..block].copy_from_slice(&rest);
        }
        if let Some(rest) = last {
            let at = bytes.len() - block;
            bytes[at..].copy_from_slice(&rest);
        }
        let inside = to_usize(range.start - start)..to_usize(range.end - start);
        source.take(&mut bytes[inside]).map_err(WriteError::Source)?;
        let bytes = Bytes::from(bytes);
        match room {
            None => self.keep_through(blocks, bytes).await,
            Some(room) => self.keep_dirty(blocks.start, &bytes, room),
        }
    }

    /// What a block holds now, if the range covers only a part of what it has on the disk.
    async fn rest_of(&self, block: u64, range: &Range<u64>) -> Result<Option<Vec<u8>>, WriteError> {
        let start = block * self.block;
        let end = (start + self.block).min(self.size);
        if range.start <= start && end <= range.end {
            return Ok(None);
        }
        Ok(Some(self.read_block(block).await?))
    }

    fn keep_dirty(
        &self,
        start: u64,
        bytes: &Bytes,
        room: OwnedSemaphorePermit,
    ) -> Result<(), WriteError> {
        let mut state = self.state();
        if state.closed {
            return Err(WriteError::Closed);
        }
        let (share, block) = (Arc::new(room), to_usize(self.block));
        for (number, at) in (start..).zip((0..bytes.len()).step_by(block)) {
            let content = Content::Data(bytes.slice(at..at + block));
            state.dirty.insert(number, Held { content, _share: Arc::clone(&share) });
        }
        drop(state);
        self.notice_dirt();
        Ok(())
    }

    async fn keep_through(&self, blocks: Range<u64>, data: Bytes) -> Result<(), WriteError> {
        let chunk = BlockChunk { start: blocks.start, data };
        let work = self.store.write(vec![chunk], &self.context);
        self.call(StoreCall::Write, work).await.map_err(WriteError::Store)?;
        let mut state = self.state();
        for block in blocks {
            state.present.insert(block);
        }
        state.dirty.tick();
        Ok(())
    }

    /// Room in the budget; waited for while the store takes what is there.
    pub(super) async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, WriteError> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.budget).try_acquire_many_owned(permits) {
            return Ok(room);
        }
        let _waiting = Waiting::new(self);
        let failures = self.urge();
        tokio::select! {
            room = Arc::clone(&self.budget).acquire_many_owned(permits) => {
                room.map_err(|_| WriteError::Closed)
            }
            error = self.failure_after(failures) => Err(error),
        }
    }

    /// Ends when a write-back fails after this many failures, or the disk is closed.
    async fn failure_after(&self, failures: u64) -> WriteError {
        self.when(|state| {
            if state.closed {
                return Some(WriteError::Closed);
            }
            let failed = state.failures != failures;
            failed.then(|| WriteError::Store(state.failure.clone().unwrap_or(StoreError::Broken)))
        })
        .await
    }
}

/// Somebody who waits for room, so that write-backs do not wait for more to do.
struct Waiting<'a>(&'a Overlay);

impl<'a> Waiting<'a> {
    fn new(overlay: &'a Overlay) -> Self {
        overlay.state().waiting += 1;
        Self(overlay)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// Cuts a range at multiples of `length`.
pub(super) fn pieces(range: Range<u64>, length: u64) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let begin = start;
        start = (begin - begin % length + length).min(range.end);
        (begin < range.end).then_some(begin..start)
    })
}
