//! The written part of a disk: what is in a store, and what is on its way there.
//!
//! ```text
//!  write ─► Turns (overlapping changes wait) ─► rest of a block that is written in part: read
//!             └─► budget: waits for room ─► Dirty ─────────────────────────────► acknowledged
//!                                             │ write-back task: batches of 4 MiB at most
//!                                             ▼
//!                                         BlockStore ─► Present
//!  flush ─► all changes so far out of Dirty ─► BlockStore::flush ──────────────► acknowledged
//!  read  ─► Dirty, else Present ─► BlockStore::read, else base image, else zeros
//! ```
//!
//! # What is durable, and what becomes of failures
//!
//! A flush that succeeds means that every change acknowledged before it is in the store, and that
//! a flush of the store that began after that has succeeded. A change that could not be brought to
//! the store stays in memory, within the budget, and readable; it is tried again for each flush
//! and each write that needs its room, and otherwise every five seconds. Until it has arrived,
//! flushes fail. So nothing is ever lost behind a flush that succeeds, also not one long after the
//! failure (unlike Linux' own page cache, which drops what it could not write). Dropping the disk
//! loses what was not flushed, as a power failure does.
//!
//! # Memory
//!
//! `max_dirty_bytes`, plus a copy of at most 4 MiB for each write-back under way
//! (`max_write_backs`, and one by a flush), plus [`crate::limits::STORE_READS`] reads of 1 MiB, plus the set of present
//! blocks: 32 KiB for each dirty GiB of 4 KiB blocks. The store's own memory comes on top.

mod dirty;
mod event;
mod flush;
mod locks;
mod options;
mod present;
mod read;
mod set;
mod write;
mod write_back;
mod zero;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};

use crate::base::Base;
use crate::error::OverlayError;
use crate::limits::{
    DIRTY_ENTRY_BYTES, MAX_BATCH_BYTES, MAX_DISK_BYTES, MIN_DIRTY_BYTES, SECTOR_BYTES, STORE_READS,
};
use crate::store::{BlockStore, StoreContext, StoreError};
use dirty::Dirty;
use event::Health;
use locks::Turns;
use set::BlockSet;

pub use event::{DiskEvent, StoreCall};
pub use options::{EventSink, OverlayOptions};

/// Everything about the written part of a disk.
pub(crate) struct Overlay {
    base: Arc<Base>,
    store: Arc<dyn BlockStore>,
    context: StoreContext,
    options: OverlayOptions,
    size: u64,
    /// Bytes of a block.
    block: u64,
    turns: Turns,
    /// Bytes of `max_dirty_bytes` that are free.
    budget: Arc<Semaphore>,
    reads: Semaphore,
    state: Mutex<State>,
    /// Tells the write-back task that there may be something to do.
    wake: Notify,
    /// Tells flushes and writes that something has arrived or failed.
    progress: Notify,
    /// Held by the one who flushes the store.
    flushing: tokio::sync::Mutex<()>,
    health: Health,
}

#[derive(Default)]
struct State {
    present: BlockSet,
    dirty: Dirty,
    /// Changes up to this number are wanted in the store.
    demand: u64,
    /// Changes up to this number are durable.
    flushed: u64,
    /// Writes that wait for room.
    waiting: usize,
    /// Since when something is queued.
    since: Option<Instant>,
    /// After a failure, until when nothing is sent unless somebody asks.
    resting: Option<Instant>,
    /// How many write-backs have failed, and why the last one did.
    failures: u64,
    failure: Option<StoreError>,
    closed: bool,
}

impl Overlay {
    /// Checks the options and lists the store.
    pub(crate) async fn open(
        base: Arc<Base>,
        store: Arc<dyn BlockStore>,
        context: StoreContext,
        options: OverlayOptions,
    ) -> Result<Self, OverlayError> {
        let size = options.size_bytes.unwrap_or_else(|| base.size());
        let block = u64::from(store.block_size());
        check(&options, base.size(), size, &*store)?;
        let budget = usize::try_from(options.max_dirty_bytes).unwrap_or(usize::MAX);
        let budget = Arc::new(Semaphore::new(budget.min(Semaphore::MAX_PERMITS)));
        let health = Health::new(options.events.clone());
        let present =
            present::list(&*store, &context, size.div_ceil(block), options.store_deadline).await?;
        let state = Mutex::new(State { present, ..State::default() });
        Ok(Self {
            base,
            store,
            context,
            options,
            size,
            block,
            turns: Turns::default(),
            budget,
            reads: Semaphore::new(STORE_READS),
            state,
            wake: Notify::new(),
            progress: Notify::new(),
            flushing: tokio::sync::Mutex::default(),
            health,
        })
    }

    /// Brings changes to the store, until the disk is closed.
    pub(crate) async fn write_back(self: Arc<Self>) {
        write_back::run(self).await;
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the blocks that are in the store.
    pub(crate) fn present_bytes(&self) -> u64 {
        self.state().present.count() * self.block
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is done under the lock that could panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of the store, ended by the deadline, and its effect on the store's health.
    async fn call<T>(
        &self,
        call: StoreCall,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let result = timeout(self.options.store_deadline, work).await;
        let result = result.unwrap_or(Err(StoreError::TimedOut));
        self.health.note(call, result.as_ref().err());
        result
    }
}

impl fmt::Debug for Overlay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Overlay")
            .field("base", &self.base)
            .field("size", &self.size)
            .finish()
    }
}

/// What a block takes of the budget.
fn cost(block: u64) -> u64 {
    block + DIRTY_ENTRY_BYTES
}

fn check(
    options: &OverlayOptions,
    base: u64,
    size: u64,
    store: &dyn BlockStore,
) -> Result<(), OverlayError> {
    let block = u64::from(store.block_size());
    if block == 0 || !block.is_multiple_of(SECTOR_BYTES) || block > MAX_BATCH_BYTES {
        return Err(OverlayError::BlockSize(store.block_size()));
    }
    if size < base || size > MAX_DISK_BYTES || !size.is_multiple_of(SECTOR_BYTES) {
        return Err(OverlayError::Size { size, base, most: MAX_DISK_BYTES });
    }
    let least = MIN_DIRTY_BYTES.max(2 * cost(block));
    if options.max_dirty_bytes < least {
        return Err(OverlayError::MaxDirtyBytes { given: options.max_dirty_bytes, least });
    }
    if !(1..=64).contains(&options.max_write_backs) {
        return Err(OverlayError::MaxWriteBacks(options.max_write_backs));
    }
    if options.store_deadline.is_zero() {
        return Err(OverlayError::StoreDeadline);
    }
    Ok(())
}
