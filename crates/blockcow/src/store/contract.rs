//! What a store promises.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::BoxStream;

use super::StoreError;
use crate::limits::MAX_BATCH_BYTES;

/// Some whole blocks that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockChunk {
    /// Number of the first block.
    pub start: u64,
    /// Their bytes: one or more whole blocks.
    pub data: Bytes,
}

/// For whom a store works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreContext {
    /// The exact base image, for example by its digest. Blocks of one base mean nothing over
    /// another.
    pub base: Arc<str>,
    /// Larger for each later writer of the same disk: a store refuses a writer whose number is
    /// below the largest that it has seen.
    pub generation: u64,
}

/// Batches of runs of block numbers.
pub type Listing<'a> = BoxStream<'a, Result<Vec<Range<u64>>, StoreError>>;

/// Keeps the blocks of one disk that were written.
///
/// Calls come side by side, also several of one kind. A disk never has two changes of the same
/// block under way, but it may read a block while that is being changed, and then takes either
/// content. A call that is dropped may have been done, in part or not at all.
///
/// What a completed `write`, `write_zeroes` or `discard` did is seen by each later `read` and
/// `list`, and is durable after the next `flush` that begins later and succeeds. A change that
/// failed may be repeated and must then have the same outcome. A `flush` that failed may be
/// followed by one that succeeds only if that makes durable all that came before both.
pub trait BlockStore: Send + Sync + 'static {
    /// Bytes of a block: a multiple of 512, at most [`MAX_BATCH_BYTES`]. Never changes.
    fn block_size(&self) -> u32;

    /// Whether [`BlockStore::discard`] makes blocks absent. If not, it is never called.
    fn discards(&self) -> bool {
        false
    }

    /// Whether a change that is dropped is over, done or not, before a later one begins. Flushes then
    /// need not leave the bringing of changes to a task that is never dropped.
    fn forgets_dropped(&self) -> bool {
        false
    }

    /// Whether changes go to the store before they are acknowledged to the guest, instead of
    /// waiting in memory for a while. For stores that are as quick as memory, and whose refusals
    /// should hit the write that is too much.
    fn writes_through(&self) -> bool {
        false
    }

    /// The blocks that are present, each once, in any order.
    fn list<'a>(&'a self, context: &'a StoreContext) -> Listing<'a>;

    /// The blocks of this range, all of which are present, in chunks of any size and order. The
    /// range has at most [`crate::limits::MAX_STORE_READ_BYTES`], or one block.
    fn read<'a>(
        &'a self,
        range: Range<u64>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<Vec<BlockChunk>, StoreError>>;

    /// Keeps these blocks: at most [`MAX_BATCH_BYTES`] in all, or one block; none twice.
    fn write<'a>(
        &'a self,
        chunks: Vec<BlockChunk>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes these blocks present and zero. Unless a store knows better, zeros are written.
    fn write_zeroes<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let size = u64::from(self.block_size());
            let most = (MAX_BATCH_BYTES / size).max(1);
            for range in ranges {
                let mut start = range.start;
                while start < range.end {
                    let count = most.min(range.end - start);
                    let length = usize::try_from(count * size).map_err(std::io::Error::other)?;
                    let data = Bytes::from(vec![0; length]);
                    self.write(vec![BlockChunk { start, data }], context).await?;
                    start += count;
                }
            }
            Ok(())
        }
        .boxed()
    }

    /// Makes these blocks absent.
    fn discard<'a>(
        &'a self,
        _ranges: Vec<Range<u64>>,
        _context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async { Err(StoreError::Rejected("it does not discard".to_owned())) }.boxed()
    }

    /// Makes durable what has been changed.
    fn flush<'a>(&'a self, context: &'a StoreContext) -> BoxFuture<'a, Result<(), StoreError>>;
}
