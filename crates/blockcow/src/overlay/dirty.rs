//! Blocks that were changed and are not in the store yet.
//!
//! ```text
//!            insert                   take                    done
//!  clean ───────────► queued ────────────────► in flight ─────────────► clean
//!                       ▲  ▲      failed          │ insert: queued again, while in flight
//!                       │  └──────────────────────┤
//!                       └─────────────────────────┘ done or failed
//! ```
//!
//! Every change has a number. A queued block carries that of its oldest change which is not in
//! the store, so "all changes up to n are in the store" is one comparison with the smallest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

/// What a block is to become.
#[derive(Debug)]
pub(crate) enum Content {
    /// A part of the memory of a write.
    Data(Bytes),
    /// Zeros, which a store that discards can express by leaving the block out, if `absent`.
    Zeros { absent: bool },
}

/// A block's content, and the budget that is charged as long as its memory is there: blocks that were
/// written together share both.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) content: Content,
    pub(crate) _share: Arc<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Entry {
    latest: Arc<Held>,
    /// While queued.
    since: Option<u64>,
    flying: bool,
}

/// A block on its way to the store.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) block: u64,
    pub(crate) held: Arc<Held>,
    since: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Dirty {
    entries: BTreeMap<u64, Entry>,
    queue: BTreeMap<u64, u64>,
    flights: BTreeSet<u64>,
    /// Number of the latest change.
    clock: u64,
}

impl Dirty {
    pub(crate) fn get(&self, block: u64) -> Option<&Arc<Held>> {
        self.entries.get(&block).map(|entry| &entry.latest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// Counts a change that went to the store directly.
    pub(crate) fn tick(&mut self) {
        self.clock += 1;
    }

    pub(crate) fn insert(&mut self, block: u64, held: Held) {
        self.clock += 1;
        let held = Arc::new(held);
        let since = self.clock;
        let entry = self.entries.entry(block).and_modify(|entry| entry.latest = Arc::clone(&held));
        let entry = entry.or_insert(Entry { latest: held, since: None, flying: false });
        if entry.since.is_none() {
            entry.since = Some(since);
            self.queue.insert(since, block);
        }
    }

    /// Forgets a block, unless it is in flight; whether it may be treated as clean.
    pub(crate) fn forget(&mut self, block: u64) -> bool {
        match self.entries.get(&block) {
            None => true,
            Some(entry) if entry.flying => false,
            Some(entry) => {
                if let Some(since) = entry.since {
                    self.queue.remove(&since);
                }
                self.entries.remove(&block);
                true
            }
        }
    }

    /// The first block of this range that is here and has data.
    pub(crate) fn first_data_in(&self, range: Range<u64>) -> Option<u64> {
        let mut entries = self.entries.range(range);
        let data = |entry: &Entry| matches!(entry.latest.content, Content::Data(_));
        entries.find(|(_, entry)| data(entry)).map(|(block, _)| *block)
    }

    /// Number of the oldest change that is not in the store.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let queued = self.queue.keys().next();
        queued.into_iter().chain(self.flights.first()).min().copied()
    }

    /// Number of the oldest change that nobody is taking to the store.
    pub(crate) fn oldest_queued(&self) -> Option<u64> {
        self.queue.keys().next().copied()
    }

    /// Takes queued blocks for a batch, oldest first, sorted by number.
    pub(crate) fn take(&mut self, data: u64, zeros: usize, block_bytes: u64) -> Vec<Flight> {
        let (mut left, mut zeros) = (data, zeros);
        let mut taken = Vec::new();
        for (since, block) in &self.queue {
            let Some(entry) = self.entries.get_mut(block) else { continue };
            if entry.flying {
                // The store never has two changes of one block to do.
                continue;
            }
            match entry.latest.content {
                // One block goes in any case.
                Content::Data(_) if left == data || left >= block_bytes => {
                    left = left.saturating_sub(block_bytes);
                }
                Content::Zeros { .. } if zeros > 0 => zeros -= 1,
                _ => break,
            }
            entry.flying = true;
            entry.since = None;
            taken.push(Flight { block: *block, held: Arc::clone(&entry.latest), since: *since });
        }
        for flight in &taken {
            self.queue.remove(&flight.since);
            self.flights.insert(flight.since);
        }
        taken.sort_unstable_by_key(|flight| flight.block);
        taken
    }

    /// A block has arrived in the store.
    pub(crate) fn done(&mut self, flight: &Flight) {
        self.flights.remove(&flight.since);
        let Some(entry) = self.entries.get_mut(&flight.block) else { return };
        entry.flying = false;
        if entry.since.is_none() {
            self.entries.remove(&flight.block);
        }
    }

    /// A block has not arrived, and is queued at the place it had before.
    pub(crate) fn failed(&mut self, flight: &Flight) {
        self.flights.remove(&flight.since);
        let Some(entry) = self.entries.get_mut(&flight.block) else { return };
        entry.flying = false;
        if let Some(later) = entry.since.replace(flight.since) {
            self.queue.remove(&later);
        }
        self.queue.insert(flight.since, flight.block);
    }
}
