//! Reading: the newest content of each byte.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::dirty::{Content, Held};
use super::{Overlay, StoreCall};
use crate::error::ReadError;
use crate::limits::{FETCHES_PER_READ, MAX_STORE_READ_BYTES};
use crate::store::answer;
use crate::store::{AnswerError, StoreError};
use crate::target::ReadTarget;

/// Where a run of bytes comes from.
enum Origin {
    Dirty(Arc<Held>),
    /// The run lies in these blocks.
    Store(Range<u64>),
    Base,
}

struct Run {
    from: Origin,
    bytes: Range<u64>,
}

/// What a store said.
enum Answer {
    Blocks(Vec<Bytes>),
    /// A block is not there any more.
    Gone,
}

/// How often one place is tried while the guest changes it during each try.
const TRIES: usize = 16;

impl Overlay {
    /// Fills the target from `offset` on, inside the disk.
    pub(crate) async fn read(
        &self,
        offset: u64,
        target: &mut impl ReadTarget,
    ) -> Result<(), ReadError> {
        let end = offset + target.remaining() as u64;
        let mut position = offset;
        let mut tries = 0;
        while position < end {
            let before = position;
            self.read_runs(&mut position, end, target).await?;
            tries = if position == before { tries + 1 } else { 0 };
            if tries == TRIES {
                let missing = AnswerError::Missing(position / self.block);
                return Err(ReadError::Store(missing.into()));
            }
        }
        Ok(())
    }

    /// Fills the target up to `end`, or up to a block that went away meanwhile.
    async fn read_runs(
        &self,
        position: &mut u64,
        end: u64,
        target: &mut impl ReadTarget,
    ) -> Result<(), ReadError> {
        let runs = self.plan(*position..end);
        let wanted: Vec<_> = runs
            .iter()
            .filter_map(|run| match &run.from {
                Origin::Store(blocks) => Some(blocks.clone()),
                Origin::Dirty(_) | Origin::Base => None,
            })
            .collect();
        let mut answers =
            stream::iter(wanted).map(|blocks| self.read_store(blocks)).buffered(FETCHES_PER_READ);
        for Run { from, bytes } in runs {
            let length = to_usize(bytes.end - bytes.start);
            match from {
                Origin::Dirty(held) => match &held.content {
                    Content::Data(data) => {
                        let skip = to_usize(bytes.start % self.block);
                        target.put(&data[skip..skip + length])?;
                    }
                    Content::Zeros { .. } => target.put_zeros(length)?,
                },
                Origin::Base => self.read_base(bytes.clone(), target).await?,
                Origin::Store(_) => match answers.next().await {
                    Some(Ok(Answer::Blocks(blocks))) => self.put_blocks(&bytes, &blocks, target)?,
                    Some(Err(error)) => return Err(ReadError::Store(error)),
                    Some(Ok(Answer::Gone)) | None => return Ok(()),
                },
            }
            *position = bytes.end;
        }
        Ok(())
    }

    /// Cuts a range into runs that come from one place each.
    fn plan(&self, range: Range<u64>) -> Vec<Run> {
        let most = (MAX_STORE_READ_BYTES / self.block).max(1);
        let state = self.state();
        let mut runs: Vec<Run> = Vec::new();
        let mut position = range.start;
        while position < range.end {
            let block = position / self.block;
            let end = ((block + 1) * self.block).min(range.end);
            let last = runs.last_mut();
            if let Some(held) = state.dirty.get(block) {
                let from = Origin::Dirty(Arc::clone(held));
                runs.push(Run { from, bytes: position..end });
            } else if state.present.contains(block) {
                match last {
                    Some(Run { from: Origin::Store(blocks), bytes })
                        if blocks.end - blocks.start < most =>
                    {
                        blocks.end = block + 1;
                        bytes.end = end;
                    }
                    _ => {
                        let from = Origin::Store(block..block + 1);
                        runs.push(Run { from, bytes: position..end });
                    }
                }
            } else {
                match last {
                    Some(Run { from: Origin::Base, bytes }) => bytes.end = end,
                    _ => runs.push(Run { from: Origin::Base, bytes: position..end }),
                }
            }
            position = end;
        }
        runs
    }

    async fn read_store(&self, blocks: Range<u64>) -> Result<Answer, StoreError> {
        let wanted = blocks.clone();
        let work = async {
            let _slot = self.reads.acquire().await.map_err(|_| StoreError::Broken)?;
            let chunks = self.store.read(wanted.clone(), &self.context).await?;
            match answer::blocks(chunks, &wanted, to_usize(self.block)) {
                Ok(blocks) => Ok(Answer::Blocks(blocks)),
                // Left out because it has just been discarded.
                Err(AnswerError::Missing(block)) if self.is_gone(block) => Ok(Answer::Gone),
                Err(wrong) => Err(wrong.into()),
            }
        };
        self.call(StoreCall::Read, work).await
    }

    /// Whether the store need not have this block now.
    fn is_gone(&self, block: u64) -> bool {
        let state = self.state();
        state.dirty.get(block).is_some() || !state.present.contains(block)
    }

    fn put_blocks(
        &self,
        bytes: &Range<u64>,
        blocks: &[Bytes],
        target: &mut impl ReadTarget,
    ) -> io::Result<()> {
        let mut position = bytes.start;
        for block in blocks {
            let skip = to_usize(position % self.block);
            let length = (block.len() - skip).min(to_usize(bytes.end - position));
            target.put(&block[skip..skip + length])?;
            position += length as u64;
        }
        Ok(())
    }

    async fn read_base(
        &self,
        bytes: Range<u64>,
        target: &mut impl ReadTarget,
    ) -> Result<(), ReadError> {
        let inside = bytes.end.min(self.base.size()).saturating_sub(bytes.start);
        if inside > 0 {
            let mut part = Part { target, left: to_usize(inside) };
            self.base.read(bytes.start, &mut part).await?;
        }
        target.put_zeros(to_usize(bytes.end - bytes.start - inside))?;
        Ok(())
    }

    /// The whole content of a block; beyond the end of the disk there are zeros.
    pub(super) async fn read_block(&self, block: u64) -> Result<Vec<u8>, ReadError> {
        let start = block * self.block;
        let length = to_usize(self.block.min(self.size - start));
        let mut bytes = vec![0; to_usize(self.block)];
        let mut target = crate::target::BufferTarget::new(&mut bytes[..length]);
        self.read(start, &mut target).await?;
        Ok(bytes)
    }

    /// The first run of bytes of this range that may hold anything but zeros.
    pub(crate) async fn next_data(
        &self,
        range: Range<u64>,
    ) -> Result<Option<Range<u64>>, ReadError> {
        let end = range.end.min(self.size);
        let base = self.base.next_data(range.start..end).await?;
        let blocks = range.start / self.block..end.div_ceil(self.block);
        let written = {
            let state = self.state();
            let present = state.present.first_in(blocks.clone());
            let dirty = state.dirty.first_data_in(blocks);
            present.into_iter().chain(dirty).min()
        };
        let written = written.map(|block| {
            let start = block * self.block;
            start.max(range.start)..(start + self.block).min(end)
        });
        Ok(match (base, written) {
            (Some(base), Some(written)) if written.start < base.start => Some(written),
            (Some(base), _) => Some(base),
            (None, written) => written,
        })
    }
}

/// The next bytes of a target.
struct Part<'a, T> {
    target: &'a mut T,
    left: usize,
}

impl<T: ReadTarget> ReadTarget for Part<'_, T> {
    fn remaining(&self) -> usize {
        self.left
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.target.put(bytes)?;
        self.left -= bytes.len();
        Ok(())
    }

    fn put_zeros(&mut self, length: usize) -> io::Result<()> {
        self.target.put_zeros(length)?;
        self.left -= length;
        Ok(())
    }

    fn put_cached(&mut self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        let count = self.target.put_cached(file, offset, length)?;
        self.left -= count;
        Ok(count)
    }
}

/// Lengths inside one request or block.
pub(super) fn to_usize(length: u64) -> usize {
    usize::try_from(length).expect("a length within a buffer fits a usize")
}
