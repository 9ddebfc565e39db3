//! Zeroing and discarding: blocks that read as zeros and take as little room as can be.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::dirty::{Content, Held};
use super::read::to_usize;
use super::write::pieces;
use super::{Overlay, StoreCall};
use crate::error::{ReadError, WriteError};
use crate::limits::{DIRTY_ENTRY_BYTES, ZERO_PIECE_BLOCKS};
use crate::source::WriteSource;
use crate::store::StoreError;

/// What a piece of zeros asks of the store.
#[derive(Default)]
struct Plan {
    zeros: Vec<u64>,
    absent: Vec<u64>,
}

impl Overlay {
    /// Makes a range read as zeros, and frees the blocks that lie in it.
    pub(crate) async fn zero(&self, offset: u64, length: u64) -> Result<(), WriteError> {
        let range = self.check_range(offset, length)?;
        let whole = range.start.next_multiple_of(self.block)..self.whole_end(range.end);
        if whole.is_empty() {
            return self.write_zeros(range).await;
        }
        self.write_zeros(range.start..whole.start).await?;
        let blocks = whole.start / self.block..whole.end.div_ceil(self.block);
        for piece in pieces(blocks, ZERO_PIECE_BLOCKS) {
            self.zero_piece(piece).await?;
            // Others have their turn between two pieces.
            tokio::task::yield_now().await;
        }
        self.write_zeros(whole.end..range.end).await
    }

    /// The end of the last block that ends before `end`; the disk's end ends its last block.
    fn whole_end(&self, end: u64) -> u64 {
        if end == self.size { end } else { end - end % self.block }
    }

    async fn write_zeros(&self, range: Range<u64>) -> Result<(), WriteError> {
        if range.is_empty() {
            return Ok(());
        }
        self.write(range.start, &mut Zeros(to_usize(range.end - range.start))).await
    }

    async fn zero_piece(&self, blocks: Range<u64>) -> Result<(), WriteError> {
        let _turn = self.turns.take(blocks.clone()).await;
        let holes = self.holes_of_base(blocks.clone()).await?;
        if self.store.writes_through() {
            return self.zero_through(&blocks, &holes).await;
        }
        let most = (blocks.end - blocks.start) * DIRTY_ENTRY_BYTES;
        let mut room = self.room(most).await?;
        let mut state = self.state();
        if state.closed {
            return Err(WriteError::Closed);
        }
        for block in blocks {
            let hole = contains(&holes, block);
            if hole && !state.present.contains(block) && state.dirty.forget(block) {
                continue;
            }
            let already = state.dirty.get(block).map(|held| &held.content);
            if matches!(already, Some(Content::Zeros { .. })) {
                continue;
            }
            let share = room.split(to_usize(DIRTY_ENTRY_BYTES)).ok_or(WriteError::Closed)?;
            let content = Content::Zeros { absent: hole && self.store.discards() };
            state.dirty.insert(block, Held { content, _share: Arc::new(share) });
        }
        drop(state);
        self.progress.notify_waiters();
        self.notice_dirt();
        Ok(())
    }

    async fn zero_through(
        &self,
        blocks: &Range<u64>,
        holes: &[Range<u64>],
    ) -> Result<(), WriteError> {
        let mut plan = Plan::default();
        {
            let state = self.state();
            for block in blocks.clone() {
                match (contains(holes, block), state.present.contains(block)) {
                    (true, false) => {}
                    (true, true) if self.store.discards() => plan.absent.push(block),
                    _ => plan.zeros.push(block),
                }
            }
        }
        let failed = |error: StoreError| WriteError::Store(error);
        if !plan.absent.is_empty() {
            let work = self.store.discard(runs(&plan.absent), &self.context);
            self.call(StoreCall::Write, work).await.map_err(failed)?;
            let mut state = self.state();
            plan.absent.iter().for_each(|block| state.present.remove(*block));
            state.dirty.tick();
        }
        if !plan.zeros.is_empty() {
            let work = self.store.write_zeroes(runs(&plan.zeros), &self.context);
            self.call(StoreCall::Write, work).await.map_err(failed)?;
            let mut state = self.state();
            for block in plan.zeros {
                state.present.insert(block);
            }
            state.dirty.tick();
        }
        Ok(())
    }

    /// Which of these blocks are zeros in the base, or beyond it.
    async fn holes_of_base(&self, blocks: Range<u64>) -> Result<Vec<Range<u64>>, ReadError> {
        let mut holes = Vec::new();
        let mut start = blocks.start;
        while start < blocks.end {
            let data = self.base.next_data(start * self.block..blocks.end * self.block).await?;
            // Blocks up to the next with data are holes.
            let hole_end = data.as_ref().map_or(blocks.end, |data| data.start / self.block);
            let hole_end = hole_end.clamp(start, blocks.end);
            if hole_end > start {
                holes.push(start..hole_end);
            }
            let data_end = data.map_or(blocks.end, |data| data.end.div_ceil(self.block));
            start = data_end.max(hole_end);
        }
        Ok(holes)
    }
}

fn contains(ranges: &[Range<u64>], block: u64) -> bool {
    let index = ranges.partition_point(|range| range.end <= block);
    ranges.get(index).is_some_and(|range| range.contains(&block))
}

/// Ascending numbers as runs.
fn runs(blocks: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some(run) if run.end == *block => run.end += 1,
            _ => runs.push(*block..block + 1),
        }
    }
    runs
}

/// Zeros as a source.
struct Zeros(usize);

impl WriteSource for Zeros {
    fn remaining(&self) -> usize {
        self.0
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.0 = self.0.checked_sub(buffer.len()).ok_or(io::ErrorKind::InvalidInput)?;
        buffer.fill(0);
        Ok(())
    }
}
