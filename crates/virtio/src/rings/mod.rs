//! The rings of one device: who serves them, and how.
//!
//! ```text
//!  guest ── kick ─────────► worker thread: one ring::Ring task a ring ──► Device::serve
//!        ◄─ call ───────────────┘     └─ many requests under way, done in any order
//! ```
//!
//! A ring belongs to its task, so no lock is taken to serve it, and only the worker thread writes
//! guest memory, so that nothing is written once a ring has stopped: a request that does not end in
//! time is not polled any more ([`left`]), until the ring goes on.
//!
//! Who sets rings up is another matter: the other side of a socket ([`crate::vhost_user`]), or a
//! monitor in this process ([`crate::local`]).

mod left;
mod notify;
mod ring;
mod worker;

use std::time::Duration;

use futures::future::LocalBoxFuture;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::limits::{MAX_RING_SIZE, REQUEST_DEADLINE};
use crate::memory::Memory;

pub(crate) use notify::Notifier;
pub(crate) use ring::{Order, queue};
pub(crate) use worker::{Start, Work, spawn};

/// Where a ring is, and where it goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) size: u16,
    pub(crate) descriptors: GuestAddress,
    pub(crate) available: GuestAddress,
    pub(crate) used: GuestAddress,
    pub(crate) base: u16,
    pub(crate) event_idx: bool,
}

/// A virtio device type.
pub(crate) trait Device: Send + Sync + 'static {
    /// Why a chain could not be taken.
    type Refusal: std::error::Error;

    /// The feature bits of the device type, without those of rings and transport.
    fn features(&self) -> u64;

    /// The driver has taken these feature bits, of all that were offered.
    fn agree(&self, _features: u64) {}

    /// How many queues there are.
    fn queues(&self) -> u16;

    /// The most descriptors of a queue.
    fn queue_size(&self, _queue: usize) -> u16 {
        MAX_RING_SIZE
    }

    /// The configuration space; empty when the front end has it.
    fn config(&self) -> &[u8];

    /// Begins to serve a chain of the queue with this index. The future ends in bounded time with how many bytes of the
    /// chain's writable part were written from its beginning on; it may be dropped before.
    ///
    /// A chain that is refused ends the ring: there is no way to answer it.
    fn serve(
        &self,
        queue: usize,
        memory: &Memory,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<LocalBoxFuture<'static, u32>, Self::Refusal>;

    /// How long a ring that is stopped waits for requests under way.
    fn stop_patience(&self) -> Duration {
        REQUEST_DEADLINE
    }

    /// A driver begins anew: it knows nothing of what was before. Requests of before are dropped.
    fn reset(&self) {}
}
