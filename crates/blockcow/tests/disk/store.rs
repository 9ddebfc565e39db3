//! A store that forgets what was not flushed, misbehaves when told to, and watches its disk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use blockcow::store::Listing;
use blockcow::{BlockChunk, BlockStore, StoreContext, StoreError};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Reject,
    Hang,
    Full,
    /// Answers to reads.
    Short,
    Foreign,
    Oversized,
    Duplicate,
    Ragged,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blocks: BTreeMap<u64, Bytes>,
    /// What a power failure would leave.
    pub(crate) durable: BTreeMap<u64, Bytes>,
    pub(crate) faults: BTreeMap<&'static str, Fault>,
    /// Faults that end by themselves, after so many calls.
    pub(crate) failing_writes: usize,
    /// Blocks that are being changed.
    busy: BTreeSet<u64>,
    pub(crate) largest_batch: usize,
    pub(crate) writes: usize,
}

pub(crate) struct TestStore {
    block: u32,
    discards: bool,
    state: Mutex<State>,
    pub(crate) flushes: AtomicUsize,
}

impl TestStore {
    pub(crate) fn new(block: u32, discards: bool) -> Self {
        Self { block, discards, state: Mutex::default(), flushes: AtomicUsize::new(0) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set(&self, call: &'static str, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.state().faults.insert(call, fault),
            None => self.state().faults.remove(call),
        };
    }

    /// A power failure.
    pub(crate) fn fail_power(&self) {
        let mut state = self.state();
        state.blocks = state.durable.clone();
        state.busy.clear();
    }

    async fn obey(&self, call: &'static str) -> Result<Option<Fault>, StoreError> {
        tokio::task::yield_now().await;
        let fault = self.state().faults.get(call).copied();
        match fault {
            Some(Fault::Reject) => Err(StoreError::Rejected("it was told to".to_owned())),
            Some(Fault::Full) => Err(StoreError::NoSpace),
            Some(Fault::Hang) => futures::future::pending().await,
            other => Ok(other),
        }
    }

    /// Changes blocks after a while, of which nobody else may change one meanwhile.
    async fn change(
        &self,
        blocks: Vec<u64>,
        change: impl FnOnce(&mut State),
    ) -> Result<(), StoreError> {
        {
            let mut state = self.state();
            for block in &blocks {
                assert!(state.busy.insert(*block), "block {block} is changed twice at once");
            }
        }
        for _ in 0..blocks.len() % 5 {
            tokio::task::yield_now().await;
        }
        let mut state = self.state();
        state.busy.retain(|block| !blocks.contains(block));
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            return Err(StoreError::Rejected("for a while".to_owned()));
        }
        change(&mut state);
        Ok(())
    }
}

fn spoilt(answer: Vec<BlockChunk>, fault: Fault, block: usize) -> Vec<BlockChunk> {
    let last = answer.last().unwrap().clone();
    let more = |start, bytes| BlockChunk { start, data: Bytes::from(vec![1; bytes]) };
    match fault {
        Fault::Short => answer[..answer.len() - 1].to_vec(),
        Fault::Foreign => [answer, vec![more(last.start + 1000, block)]].concat(),
        Fault::Oversized => vec![more(answer[0].start, (answer.len() + 3) * block)],
        Fault::Duplicate => [answer, vec![last]].concat(),
        _ => vec![more(answer[0].start, answer.len() * block - 1)],
    }
}

impl BlockStore for TestStore {
    fn block_size(&self) -> u32 {
        self.block
    }

    fn discards(&self) -> bool {
        self.discards
    }

    fn list<'a>(&'a self, _: &'a StoreContext) -> Listing<'a> {
        stream::once(async {
            self.obey("list").await?;
            Ok(self.state().blocks.keys().map(|block| *block..block + 1).collect())
        })
        .boxed()
    }

    fn read<'a>(
        &'a self,
        range: Range<u64>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<Vec<BlockChunk>, StoreError>> {
        async move {
            let fault = self.obey("read").await?;
            let state = self.state();
            let found = state.blocks.range(range);
            let answer: Vec<_> = found
                .map(|(start, data)| BlockChunk { start: *start, data: data.clone() })
                .collect();
            Ok(match fault {
                Some(fault) => spoilt(answer, fault, self.block as usize),
                None => answer,
            })
        }
        .boxed()
    }

    fn write<'a>(
        &'a self,
        chunks: Vec<BlockChunk>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            self.obey("write").await?;
            let block = self.block as usize;
            let all: Vec<(u64, Bytes)> = chunks
                .iter()
                .flat_map(|chunk| {
                    assert!(!chunk.data.is_empty() && chunk.data.len().is_multiple_of(block));
                    (chunk.start..)
                        .zip(chunk.data.chunks(block))
                        .map(|(number, bytes)| (number, Bytes::copy_from_slice(bytes)))
                })
                .collect();
            let blocks = all.iter().map(|(number, _)| *number).collect();
            self.change(blocks, |state| {
                state.writes += 1;
                state.largest_batch = state.largest_batch.max(all.len() * block);
                state.blocks.extend(all);
            })
            .await
        }
        .boxed()
    }

    fn discard<'a>(
        &'a self,
        ranges: Vec<Range<u64>>,
        _: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            assert!(self.discards);
            self.obey("discard").await?;
            let blocks: Vec<u64> = ranges.into_iter().flatten().collect();
            let gone = blocks.clone();
            self.change(blocks, move |state| {
                gone.iter().for_each(|block| drop(state.blocks.remove(block)));
            })
            .await
        }
        .boxed()
    }

    fn flush<'a>(&'a self, _: &'a StoreContext) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            self.obey("flush").await?;
            self.flushes.fetch_add(1, Ordering::Relaxed);
            let mut state = self.state();
            state.durable = state.blocks.clone();
            Ok(())
        }
        .boxed()
    }
}
