//! The task that brings changes to the store.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};

use super::dirty::{Content, Flight};
use super::{Overlay, State, StoreCall};
use crate::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_ZEROS, WRITE_BACK_PAUSE, WRITE_BACK_REST, WRITE_BACK_TRIES,
};
use crate::store::{BlockChunk, StoreError};

/// What one write-back has to do.
#[derive(Default)]
struct Batch {
    chunks: Vec<BlockChunk>,
    zeros: Vec<Range<u64>>,
    absent: Vec<Range<u64>>,
}

/// Runs until the disk is closed; ended with the disk otherwise.
pub(super) async fn run(overlay: Arc<Overlay>) {
    let mut flights = FuturesUnordered::new();
    loop {
        while flights.len() < overlay.options.max_write_backs {
            let Some(batch) = overlay.take_batch() else { break };
            let overlay = &overlay;
            flights.push(async move {
                let result = overlay.send(&batch).await;
                (batch, result)
            });
        }
        let next = match overlay.next_time() {
            Ok(next) => next,
            Err(Closed) if flights.is_empty() => return,
            Err(Closed) => None,
        };
        tokio::select! {
            Some((batch, result)) = flights.next(), if !flights.is_empty() => {
                overlay.arrived(&batch, result);
            }
            () = overlay.wake.notified() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                overlay.on_time();
            }
        }
    }
}

struct Closed;

impl Overlay {
    /// Tells the write-back task that something is dirty, if it has to know now.
    pub(super) fn notice_dirt(&self) {
        let urgent = {
            let mut state = self.state();
            let first = state.since.is_none() && !state.dirty.is_empty();
            if first {
                state.since = Some(Instant::now());
            }
            first || self.is_half_full()
        };
        if urgent {
            self.wake.notify_one();
        }
    }

    fn is_half_full(&self) -> bool {
        (self.budget.available_permits() as u64) < self.options.max_dirty_bytes / 2
    }

    /// When to look again by itself.
    fn next_time(&self) -> Result<Option<Instant>, Closed> {
        let state = self.state();
        if state.closed {
            return Err(Closed);
        }
        if state.dirty.oldest_queued().is_none() {
            return Ok(None);
        }
        let due = state.since.map(|since| since + self.options.write_back_delay);
        Ok(state.resting.or(due))
    }

    /// The time of [`Overlay::next_time`] has come.
    fn on_time(&self) {
        let mut state = self.state();
        state.resting = None;
        state.since = None;
        state.demand = state.demand.max(state.dirty.clock());
    }

    pub(super) fn take_batch(&self) -> Option<Vec<Flight>> {
        let mut state = self.state();
        if state.resting.is_some() || !self.is_wanted(&state) {
            return None;
        }
        let batch = state.dirty.take(MAX_BATCH_BYTES, MAX_BATCH_ZEROS, self.block);
        if state.dirty.oldest_queued().is_none() {
            state.since = None;
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn is_wanted(&self, state: &State) -> bool {
        let Some(oldest) = state.dirty.oldest_queued() else { return false };
        oldest <= state.demand || state.waiting > 0 || self.is_half_full()
    }

    /// Brings a batch to the store.
    pub(super) async fn send(&self, flights: &[Flight]) -> Result<(), StoreError> {
        let mut result = Ok(());
        for attempt in 0..WRITE_BACK_TRIES {
            if attempt > 0 {
                sleep(WRITE_BACK_PAUSE * 4u32.pow(attempt - 1)).await;
            }
            result = self.try_send(Batch::new(flights, self.block)).await;
            if result.as_ref().err().is_none_or(|error| !error.is_transient()) {
                break;
            }
        }
        result
    }

    async fn try_send(&self, batch: Batch) -> Result<(), StoreError> {
        let Batch { chunks, zeros, absent } = batch;
        if !chunks.is_empty() {
            self.call(StoreCall::Write, self.store.write(chunks, &self.context)).await?;
        }
        if !zeros.is_empty() {
            self.call(StoreCall::Write, self.store.write_zeroes(zeros, &self.context)).await?;
        }
        if !absent.is_empty() {
            self.call(StoreCall::Write, self.store.discard(absent, &self.context)).await?;
        }
        Ok(())
    }

    pub(super) fn arrived(&self, flights: &[Flight], result: Result<(), StoreError>) {
        let mut state = self.state();
        match result {
            Ok(()) => {
                for flight in flights {
                    state.dirty.done(flight);
                    match flight.held.content {
                        Content::Zeros { absent: true } => state.present.remove(flight.block),
                        Content::Data(_) | Content::Zeros { absent: false } => {
                            state.present.insert(flight.block);
                        }
                    }
                }
            }
            Err(error) => {
                flights.iter().for_each(|flight| state.dirty.failed(flight));
                state.failures += 1;
                state.failure = Some(error);
                state.resting = Some(Instant::now() + WRITE_BACK_REST);
                // From now on only who asks again is served before that time.
                state.demand = 0;
            }
        }
        drop(state);
        self.progress.notify_waiters();
    }
}

impl Batch {
    fn new(flights: &[Flight], block: u64) -> Self {
        let mut batch = Self::default();
        let mut chunk: Option<(u64, BytesMut)> = None;
        for Flight { block: number, held, .. } in flights {
            match &held.content {
                Content::Data(bytes) => match &mut chunk {
                    Some((start, data)) if *start + data.len() as u64 / block == *number => {
                        data.extend_from_slice(bytes);
                    }
                    _ => {
                        batch.push(chunk.take());
                        chunk = Some((*number, BytesMut::from(&bytes[..])));
                    }
                },
                Content::Zeros { absent: true } => extend(&mut batch.absent, *number),
                Content::Zeros { absent: false } => extend(&mut batch.zeros, *number),
            }
        }
        batch.push(chunk);
        batch
    }

    fn push(&mut self, chunk: Option<(u64, BytesMut)>) {
        if let Some((start, data)) = chunk {
            self.chunks.push(BlockChunk { start, data: data.freeze() });
        }
    }
}

/// Appends a block to runs of blocks.
fn extend(runs: &mut Vec<Range<u64>>, block: u64) {
    match runs.last_mut() {
        Some(run) if run.end == block => run.end += 1,
        _ => runs.push(block..block + 1),
    }
}
