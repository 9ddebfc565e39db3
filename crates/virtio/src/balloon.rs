//! virtio-balloon (virtio 1.2, 5.5), of which one thing is used: the guest reports pages that it
//! does not use (5.5.6.7), and their memory goes back to the host. The balloon itself stays empty.

use futures::future::{FutureExt, LocalBoxFuture, ready};
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::chain::{Chain, ChainError};
use crate::error::DeviceError;
use crate::limits::{BLOCK_RING_SIZE, MAX_DESCRIPTORS};
use crate::local::LocalDevice;
use crate::memory::{Memory, Segment, SharedMemory};
use crate::rings::Device;
use crate::sys;

/// VIRTIO_BALLOON_F_PAGE_REPORTING.
const REPORTING: u64 = 1 << 5;
/// Inflate, deflate, and after them the one for reports: those of features that are not offered
/// have no number.
const QUEUES: u16 = 3;
const REPORTS: usize = 2;
/// struct virtio_balloon_config: how many pages are asked for, how many were given. Both are 0.
const CONFIG: [u8; 8] = [0; 8];

/// A way for the guest to give memory back.
///
/// # Errors
/// [`DeviceError`] when there is no thread for it.
pub fn local_balloon(memory: &SharedMemory) -> Result<LocalDevice, DeviceError> {
    LocalDevice::start(VIRTIO_ID_BALLOON, Balloon, memory)
}

struct Balloon;

impl Device for Balloon {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        REPORTING
    }

    fn queues(&self) -> u16 {
        QUEUES
    }

    fn queue_size(&self, _queue: usize) -> u16 {
        BLOCK_RING_SIZE
    }

    fn config(&self) -> &[u8] {
        &CONFIG
    }

    fn serve(
        &self,
        queue: usize,
        memory: &Memory,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<LocalBoxFuture<'static, u32>, ChainError> {
        let Chain { writable, .. } = Chain::collect(memory, chain, MAX_DESCRIPTORS)?;
        if queue == REPORTS {
            writable.iter().for_each(|pages| give_back(memory, pages));
        }
        Ok(ready(0).boxed_local())
    }
}

fn give_back(memory: &GuestMemoryMmap, pages: &Segment) {
    for slice in memory.get_slices(pages.address, pages.length as usize) {
        // Checked with the chain.
        let Ok(slice) = slice else { return };
        if let Err(error) = sys::discard(&slice) {
            tracing::debug!(%error, "pages were not given back");
        }
    }
}
