//! A store in memory, gone with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use futures::stream::{self, StreamExt};

use super::{BlockChunk, BlockStore, Listing, StoreContext, StoreError};

const BLOCK_BYTES: u32 = 4096;

/// What keeping one block takes beside its bytes: its share of the tree, and the allocations.
const ENTRY_BYTES: u64 = 128;

/// Keeps blocks in memory up to a quota, which holds for the bytes of the blocks and for what it
/// takes to keep them. What is too much is refused as a whole, with [`StoreError::NoSpace`].
#[derive(Debug)]
pub struct MemoryStore {
    quota: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: BTreeMap<u64, Bytes>,
    zeros: BTreeSet<u64>,
}

impl Kept {
    fn used(&self) -> u64 {
        cost(self.blocks.len() as u64, self.zeros.len() as u64)
    }
}

fn cost(blocks: u64, zeros: u64) -> u64 {
    blocks * (u64::from(BLOCK_BYTES) + ENTRY_BYTES) + zeros * ENTRY_BYTES
}

impl MemoryStore {
    /// An empty store that takes at most `quota` bytes of memory.
    pub fn new(quota: u64) -> Self {
        Self { quota, kept: Mutex::default() }
    }

    /// Blocks of 4 KiB that a quota has room for.
    pub const fn capacity_blocks(quota: u64) -> u64 {
        quota / (BLOCK_BYTES as u64 + ENTRY_BYTES)
    }

    /// Bytes of memory in use, in the quota's terms.
    pub fn used_bytes(&self) -> u64 {
        self.kept().used()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change is complete before anything can panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, chunks: Vec<BlockChunk>) -> Result<(), StoreError> {
        let block = BLOCK_BYTES as usize;
        let mut kept = self.kept();
        let new: u64 = chunks
            .iter()
            .map(|chunk| {
                let count = (chunk.data.len() / block) as u64;
                let have = kept.blocks.range(chunk.start..chunk.start + count).count() as u64;
                count - have
            })
            .sum();
        // Zeros that turn into blocks are counted as new ones too: a little early, never late.
        if new > 0 && kept.used() + cost(new, 0) > self.quota {
            return Err(StoreError::NoSpace);
        }
        for BlockChunk { start, data } in chunks {
            for (number, bytes) in (start..).zip(data.chunks(block)) {
                kept.zeros.remove(&number);
                // A copy of its own, so that no block holds on to its neighbours' memory.
                kept.blocks.insert(number, Bytes::copy_from_slice(bytes));
            }
        }
        Ok(())
    }

    fn keep_zeros(&self, ranges: Vec<Range<u64>>) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let numbers = || ranges.iter().cloned().flatten();
        // A block that turns to zeros takes less than before.
        let new = |number: &u64| !kept.zeros.contains(number) && !kept.blocks.contains_key(number);
        let new = numbers().filter(new).count() as u64;
        if new > 0 && kept.used() + cost(0, new) > self.quota {
            return Err(StoreError::NoSpace);
        }
        for number in numbers() {
            kept.blocks.remove(&number);
            kept.zeros.insert(number);
        }
        Ok(())
    }

    fn forget(&self, ranges: Vec<Range<u64>>) {
        let mut kept = self.kept();
        for number in ranges.into_iter().flatten() {
            kept.blocks.remove(&number);
            kept.zeros.remove(&number);
        }
    }

    fn find(&self, range: Range<u64>) -> Vec<BlockChunk> {
        static ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
        let kept = self.kept();
        let block =
            |(start, data): (&u64, &Bytes)| BlockChunk { start: *start, data: data.clone() };
        let zeros = |start: &u64| BlockChunk { start: *start, data: Bytes::from_static(&ZEROS) };
        let blocks = kept.blocks.range(range.clone()).map(block);
        blocks.chain(kept.zeros.range(range).map(zeros)).collect()
    }
}

impl BlockStore for MemoryStore {
    fn block_size(&self) -> u32 {
        BLOCK_BYTES
    }

    fn discards(&self) -> bool {
        true
    }

    fn writes_through(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, _: &'a StoreContext) -> Listing<'a> {
        let kept = self.kept();
        let present = kept.blocks.keys().chain(&kept.zeros).map(|number| *number..number + 1);
        stream::iter([Ok(present.collect())]).boxed()
    }

    fn read<'a>(
        &'a self,
        range: Range<u64>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<Vec<BlockChunk>, StoreError>> {
        ready(Ok(self.find(range))).boxed()
    }

    fn write<'a>(
        &'a self,
        chunks: Vec<BlockChunk>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.keep(chunks)).boxed()
    }

    fn write_zeroes<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(self.keep_zeros(ranges)).boxed()
    }

    fn discard<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.forget(ranges);
        ready(Ok(())).boxed()
    }

    fn flush<'a>(&'a self, _: &'a StoreContext) -> BoxFuture<'a, Result<(), StoreError>> {
        ready(Ok(())).boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "one run of blocks")]

    use std::sync::Arc;

    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn it_is_a_store() {
        conformance::check(|| async {
            Arc::new(MemoryStore::new(64 << 20)) as Arc<dyn BlockStore>
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_over_the_quota_is_refused_as_a_whole_and_takes_nothing() {
        let store = MemoryStore::new(10 * (4096 + ENTRY_BYTES));
        let context = conformance::context();
        let chunk =
            |start, blocks: usize| BlockChunk { start, data: Bytes::from(vec![1; 4096 * blocks]) };
        store.write(vec![chunk(0, 8)], &context).await.unwrap();
        let used = store.used_bytes();
        for _ in 0..100 {
            let refused = store.write(vec![chunk(6, 5)], &context).await;
            assert!(matches!(refused, Err(StoreError::NoSpace)));
            assert_eq!(store.used_bytes(), used);
        }
        // What is there can be overwritten, and what is given up can be used anew.
        store.write(vec![chunk(0, 8)], &context).await.unwrap();
        store.discard(vec![0..4], &context).await.unwrap();
        store.write(vec![chunk(20, 6)], &context).await.unwrap();
        assert!(store.write_zeroes(vec![100..200], &context).await.is_err());
        assert_eq!(store.used_bytes(), 10 * (4096 + ENTRY_BYTES));
    }
}
