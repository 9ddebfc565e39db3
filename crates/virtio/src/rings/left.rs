//! What a stopped ring leaves behind, and whether a ring that starts goes on with it.
//!
//! A front end stops rings when the guest is paused and when its driver lets go of the device, and
//! does not say which. After a pause the ring is found as it was left, and its requests must be
//! answered some time. A driver that begins anew has set up empty rings, and an answer to a request
//! of before would be taken for one of its own.

use std::collections::HashMap;

use virtio_queue::{Queue, QueueState, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::Device;
use super::ring::Jobs;

/// A ring that was stopped.
pub(super) struct Left {
    state: QueueState,
    /// The part of the ring that only the device writes.
    used: Option<Vec<u8>>,
    jobs: Jobs,
}

impl Left {
    pub(super) fn new(queue: &Queue, memory: &GuestMemoryMmap, jobs: Jobs) -> Self {
        Self { state: queue.state(), used: used_part(queue, memory), jobs }
    }

    fn goes_on(&self, queue: &Queue, memory: &GuestMemoryMmap) -> bool {
        self.state == queue.state() && self.used == used_part(queue, memory)
    }
}

/// All stopped rings of a device, by their index.
#[derive(Default)]
pub(super) struct LeftRings(HashMap<usize, Left>);

impl LeftRings {
    pub(super) fn keep(&mut self, index: usize, left: Left) {
        self.0.insert(index, left);
    }

    /// What a ring that is about to start has to finish. When it is not the one that was left, a
    /// driver has begun anew, and the device is reset.
    pub(super) fn take<D: Device>(
        &mut self,
        index: usize,
        queue: &Queue,
        memory: &GuestMemoryMmap,
        device: &D,
    ) -> Jobs {
        match self.0.remove(&index) {
            None => Jobs::new(),
            Some(left) if left.goes_on(queue, memory) => left.jobs,
            Some(left) => {
                drop(left);
                self.begin_anew(device);
                Jobs::new()
            }
        }
    }

    /// Drops what is under way, and resets the device.
    pub(super) fn begin_anew<D: Device>(&mut self, device: &D) {
        self.0.clear();
        device.reset();
    }
}

/// Flags, index and entries of the used ring (virtio 1.2, 2.7.8). `None` when they are not in
/// memory; such a ring is not served.
fn used_part(queue: &Queue, memory: &GuestMemoryMmap) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4 + 8 * usize::from(queue.size())];
    memory.read_slice(&mut bytes, GuestAddress(queue.used_ring())).ok()?;
    Some(bytes)
}
