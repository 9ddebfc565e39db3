//! A device of a monitor in this process, which hands over the rings that the driver set up.
//!
//! ```text
//!  start ─► activate ─► (rings are served) ─► reset ─► activate … ─► drop
//! ```
//! After a reset, and after the end, nothing is read from or written to guest memory any more.

use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fmt, io};

use tokio::sync::{mpsc, oneshot};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{GuestAddress, GuestAddressSpace};

use crate::error::DeviceError;
use crate::memory::SharedMemory;
use crate::rings::{self, Device, Notifier, Order, Setup, Start, Work};

/// Tells a driver, or its transport, something. Does not wait.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// What a device has to tell.
#[derive(Clone)]
pub struct Interrupts {
    /// There is something in a used ring.
    pub used: Interrupt,
    /// A ring is not served any more, because the driver broke its rules.
    pub broken: Interrupt,
}

/// A ring as the driver set it up: anything at all.
#[derive(Debug)]
pub struct RingSetup {
    /// Which of the device's queues it is.
    pub queue: usize,
    /// Descriptors.
    pub size: u16,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// That of the available ring.
    pub available: u64,
    /// That of the used ring.
    pub used: u64,
    /// An eventfd that the driver's notifications arrive at.
    pub kick: File,
}

/// A device. Dropping it waits until nothing of it is left, which takes no time; only a read that
/// hangs in the host's kernel takes up to [`crate::limits::BLOCKING_THREAD_END`].
pub struct LocalDevice {
    id: u32,
    features: u64,
    config: Vec<u8>,
    queue_sizes: Vec<u16>,
    agree: Box<dyn Fn(u64) + Send + Sync>,
    memory: SharedMemory,
    work: Option<mpsc::UnboundedSender<Work>>,
    thread: Option<JoinHandle<()>>,
    /// Those that run.
    running: Vec<mpsc::UnboundedSender<Order>>,
}

impl fmt::Debug for LocalDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDevice").field("id", &self.id).finish_non_exhaustive()
    }
}

impl LocalDevice {
    pub(crate) fn start<D: Device>(
        id: u32,
        device: D,
        memory: &SharedMemory,
    ) -> Result<Self, DeviceError> {
        let offered = 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC;
        let device = Arc::new(device);
        let (work, thread) =
            rings::spawn(Arc::clone(&device), memory.clone()).map_err(DeviceError::Start)?;
        Ok(Self {
            id,
            features: device.features() | offered,
            config: device.config().to_vec(),
            queue_sizes: (0..device.queues())
                .map(|queue| device.queue_size(queue.into()))
                .collect(),
            agree: Box::new(move |features| device.agree(features)),
            memory: memory.clone(),
            work: Some(work),
            thread: Some(thread),
            running: Vec::new(),
        })
    }

    /// The device type (virtio 1.2, 5).
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The feature bits that are offered, those of rings and transport included.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.features
    }

    /// The most descriptors of each queue.
    #[must_use]
    pub fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    /// Copies from the configuration space; what is beyond it reads as zeros.
    pub fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let config = self.config.iter().copied().chain(std::iter::repeat(0)).skip(
            // A skip beyond the end of both would never be done.
            offset.min(self.config.len()),
        );
        bytes.iter_mut().zip(config).for_each(|(byte, value)| *byte = value);
    }

    /// Whether the device has ended by itself, which is a defect.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Begins to serve rings for a driver that has taken these features. Not to be called in an
    /// asynchronous context.
    ///
    /// # Errors
    /// [`DeviceError`] for a ring that cannot be; it and those after it are not served.
    pub fn activate(
        &mut self,
        features: u64,
        setups: Vec<RingSetup>,
        interrupts: &Interrupts,
    ) -> Result<(), DeviceError> {
        let features = features & self.features;
        (self.agree)(features);
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        for setup in setups {
            self.start_ring(setup, event_idx, interrupts)?;
        }
        Ok(())
    }

    fn start_ring(
        &mut self,
        setup: RingSetup,
        event_idx: bool,
        interrupts: &Interrupts,
    ) -> Result<(), DeviceError> {
        let RingSetup { queue: index, size, descriptors, available, used, kick } = setup;
        let most = self.queue_sizes.get(index).copied().unwrap_or(0);
        if size > most {
            return Err(DeviceError::Ring(virtio_queue::Error::InvalidSize));
        }
        let setup = Setup {
            size,
            descriptors: GuestAddress(descriptors),
            available: GuestAddress(available),
            used: GuestAddress(used),
            base: 0,
            event_idx,
        };
        let queue = rings::queue(&self.memory.memory(), &setup).map_err(DeviceError::Ring)?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let (reply, begun) = oneshot::channel();
        let start = Start {
            index,
            queue,
            kick,
            call: Notifier::Call(Arc::clone(&interrupts.used)),
            error: Notifier::Call(Arc::clone(&interrupts.broken)),
            orders: receiver,
            reply,
        };
        let work = self.work.as_ref().ok_or(DeviceError::Panicked)?;
        work.send(Work::Start(start)).map_err(|_| DeviceError::Panicked)?;
        begun.blocking_recv().map_err(|_| DeviceError::Panicked)?.map_err(DeviceError::Start)?;
        self.running.push(orders);
        Ok(())
    }

    /// Stops all rings, and forgets the driver and what it had asked for. Not to be called in an
    /// asynchronous context.
    pub fn reset(&mut self) {
        for orders in self.running.drain(..) {
            let (reply, left) = oneshot::channel();
            // One that has ended touches nothing any more.
            if orders.send(Order::Leave(reply)).is_ok() {
                let _ = left.blocking_recv();
            }
        }
        if let Some(work) = &self.work {
            let _ = work.send(Work::Reset);
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.running.clear();
        self.work = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(io::Error::other("the device's thread panicked")),
            Some(Ok(())) | None => Ok(()),
        }
    }
}

impl Drop for LocalDevice {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, id = self.id, "a device had ended before the machine");
        }
    }
}

#[cfg(test)]
mod tests;
