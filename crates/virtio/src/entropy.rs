//! virtio-rng (virtio 1.2, 5.4): random numbers of the host.

use blockcow::ReadTarget;
use futures::future::{FutureExt, LocalBoxFuture, ready};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use crate::chain::{Chain, ChainError};
use crate::error::DeviceError;
use crate::limits::{MAX_DESCRIPTORS, MAX_RANDOM_BYTES, PORT_RING_SIZE};
use crate::local::LocalDevice;
use crate::memory::{Memory, SegmentTarget, SharedMemory, total};
use crate::rings::Device;
use crate::sys;

/// A source of random numbers.
///
/// # Errors
/// [`DeviceError`] when there is no thread for it.
pub fn local_entropy(memory: &SharedMemory) -> Result<LocalDevice, DeviceError> {
    LocalDevice::start(VIRTIO_ID_RNG, Entropy, memory)
}

struct Entropy;

impl Device for Entropy {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        1
    }

    fn queue_size(&self, _queue: usize) -> u16 {
        PORT_RING_SIZE
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn serve(
        &self,
        _queue: usize,
        memory: &Memory,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<LocalBoxFuture<'static, u32>, ChainError> {
        let Chain { writable, .. } = Chain::collect(memory, chain, MAX_DESCRIPTORS)?;
        if writable.is_empty() {
            return Err(ChainError::NoRoom);
        }
        let length = usize::try_from(total(&writable)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(MAX_RANDOM_BYTES)];
        let filled = sys::random(&mut bytes)
            .and_then(|()| SegmentTarget::new(memory, &writable).put(&bytes));
        let written = filled.map_or(0, |()| u32::try_from(bytes.len()).unwrap_or(0));
        Ok(ready(written).boxed_local())
    }
}
