//! The back end of vhost-user: one device, one front end, one connected socket.
//!
//! ```text
//!  front end ── socket ──► connection thread: handler::Handler (memory table, ring addresses)
//!                              │ starts, stops rings
//!  guest ── kick ─────────► worker thread: one ring::Ring task a ring ──► Device::serve
//!        ◄─ call ───────────────┘     └─ many requests under way, done in any order
//! ```
//!
//! A ring belongs to its task, so no lock is taken to serve it, and only the worker thread writes
//! guest memory, so that nothing is written once a ring has stopped: a request that does not end in
//! time is not polled any more ([`left`]), until the ring goes on.

mod handler;
mod left;
mod notify;
mod region;
mod ring;
mod server;
mod worker;

use std::time::Duration;

use futures::future::LocalBoxFuture;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use crate::limits::REQUEST_DEADLINE;
use crate::memory::Memory;

pub use server::DeviceServer;

/// A virtio device type.
pub(crate) trait Device: Send + Sync + 'static {
    /// Why a chain could not be taken.
    type Refusal: std::error::Error;

    /// The feature bits of the device type, without those of rings and transport.
    fn features(&self) -> u64;

    /// How many queues there are.
    fn queues(&self) -> u16;

    /// The configuration space; empty when the front end has it.
    fn config(&self) -> &[u8];

    /// Begins to serve a chain. The future ends in bounded time with how many bytes of the
    /// chain's writable part were written from its beginning on; it may be dropped before.
    ///
    /// A chain that is refused ends the ring: there is no way to answer it.
    fn serve(
        &self,
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
