//! The front end's requests: what it sets up, and when rings run.
//!
//! A ring runs while it has a kick file, addresses, and is enabled. What is not offered in
//! `get_features` and `get_protocol_features` is refused.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::GuestAddressSpace;

use super::region::{self, Translation};
use crate::limits::MAX_RING_SIZE;
use crate::memory::SharedMemory;
use crate::rings::{self, Device, Notifier, Order, Setup, Start, Work};

#[derive(Default)]
struct RingSlot {
    setup: Setup,
    addressed: bool,
    enabled: bool,
    kick: Option<File>,
    call: Option<File>,
    error: Option<File>,
    /// There while the ring runs.
    orders: Option<mpsc::UnboundedSender<Order>>,
}

pub(super) struct Handler<D> {
    device: Arc<D>,
    memory: SharedMemory,
    work: mpsc::UnboundedSender<Work>,
    translation: Translation,
    rings: Vec<RingSlot>,
    features: u64,
}

impl<D: Device> Handler<D> {
    pub(super) fn new(
        device: Arc<D>,
        memory: SharedMemory,
        work: mpsc::UnboundedSender<Work>,
    ) -> Self {
        let rings = (0..device.queues()).map(|_| RingSlot::default()).collect();
        Self { device, memory, work, translation: Translation::default(), rings, features: 0 }
    }

    fn offered(&self) -> u64 {
        self.device.features()
            | 1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    /// Without acknowledged messages, which the library offers by itself.
    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        if self.device.config().is_empty() {
            VhostUserProtocolFeatures::MQ
        } else {
            VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIG
        }
    }

    fn ring(&mut self, index: impl TryInto<usize>) -> Result<&mut RingSlot> {
        let index = index.try_into().map_err(|_| Error::InvalidParam)?;
        self.rings.get_mut(index).ok_or(Error::InvalidParam)
    }

    /// A ring whose setup may be changed.
    fn stopped_ring(&mut self, index: u32) -> Result<&mut RingSlot> {
        let ring = self.ring(index)?;
        if ring.orders.is_some() {
            return Err(Error::InvalidOperation("the ring is running"));
        }
        Ok(ring)
    }

    /// Starts a ring that has all it takes.
    fn start_if_ready(&mut self, index: usize) -> Result<()> {
        let event_idx = self.features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        let memory = self.memory.memory();
        let work = self.work.clone();
        let ring = self.ring(index)?;
        let (Some(kick), true, true, None) =
            (&ring.kick, ring.addressed, ring.enabled, &ring.orders)
        else {
            return Ok(());
        };
        ring.setup.event_idx = event_idx;
        let queue = rings::queue(&memory, &ring.setup).map_err(|error| {
            tracing::debug!(%error, index, "the front end described an impossible ring");
            Error::InvalidParam
        })?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let (reply, begun) = oneshot::channel();
        let start = Start {
            index,
            queue,
            kick: duplicate(kick)?,
            call: notifier(ring.call.as_ref())?,
            error: notifier(ring.error.as_ref())?,
            orders: receiver,
            reply,
        };
        work.send(Work::Start(start)).map_err(|_| Error::BackendInternalError)?;
        begun
            .blocking_recv()
            .map_err(|_| Error::BackendInternalError)?
            .map_err(Error::ReqHandlerError)?;
        ring.orders = Some(orders);
        Ok(())
    }

    /// Stops a ring and waits until nothing of it is under way.
    fn stop(&mut self, index: usize) -> Result<()> {
        let ring = self.ring(index)?;
        let Some(orders) = ring.orders.take() else { return Ok(()) };
        let (reply, stopped) = oneshot::channel();
        orders.send(Order::Stop(reply)).map_err(|_| Error::BackendInternalError)?;
        ring.setup.base = stopped.blocking_recv().map_err(|_| Error::BackendInternalError)?;
        Ok(())
    }

    fn stop_all(&mut self) -> Result<()> {
        (0..self.rings.len()).try_for_each(|index| self.stop(index))
    }

    fn reset(&mut self) -> Result<()> {
        self.stop_all()?;
        self.work.send(Work::Reset).map_err(|_| Error::BackendInternalError)?;
        self.rings.iter_mut().for_each(|ring| *ring = RingSlot::default());
        self.features = 0;
        Ok(())
    }
}

fn duplicate(file: &File) -> Result<File> {
    file.try_clone().map_err(Error::ReqHandlerError)
}

fn notifier(file: Option<&File>) -> Result<Notifier> {
    Notifier::of_file(file.map(duplicate).transpose()?).map_err(Error::ReqHandlerError)
}

fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("it was not offered"))
}

impl<D: Device> VhostUserBackendReqHandlerMut for Handler<D> {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.reset()
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.offered())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.offered() != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        self.device.agree(features);
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            // There is no message to enable a ring then.
            self.rings.iter_mut().for_each(|ring| ring.enabled = true);
        }
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(self.protocol_features())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let offered = self.protocol_features() | VhostUserProtocolFeatures::REPLY_ACK;
        if features & !offered.bits() != 0 {
            return Err(Error::InvalidParam);
        }
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.rings.len() as u64)
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        // The protocol caps the size at 256. What is beyond the space reads as zeros.
        let config = self.device.config().iter().copied().chain(std::iter::repeat(0));
        Ok(config.skip(offset as usize).take(size as usize).collect())
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidOperation("the configuration is read-only"))
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let (memory, translation) = region::map(regions, files).map_err(|error| {
            tracing::warn!(%error, source = ?error, "the guest's memory is not usable");
            Error::ReqHandlerError(std::io::Error::other(error))
        })?;
        // Requests under way keep the memory they began with until they are done.
        self.memory.lock().map_err(|_| Error::BackendInternalError)?.replace(memory);
        self.translation = translation;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let fits = size.is_power_of_two() && size <= u32::from(MAX_RING_SIZE);
        let size = u16::try_from(size).ok().filter(|_| fits).ok_or(Error::InvalidParam)?;
        self.stopped_ring(index)?.setup.size = size;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let [Some(descriptors), Some(used), Some(available)] =
            [descriptors, used, available].map(|user| self.translation.to_guest(user))
        else {
            return Err(Error::InvalidParam);
        };
        let ring = self.stopped_ring(index)?;
        ring.setup = Setup { descriptors, used, available, ..ring.setup };
        ring.addressed = true;
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.stopped_ring(index)?.setup.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.stop(index as usize)?;
        let ring = self.ring(index)?;
        ring.kick = None;
        ring.call = None;
        Ok(VhostUserVringState::new(index, u32::from(ring.setup.base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        if file.is_none() {
            return Err(Error::InvalidOperation("rings are not polled"));
        }
        self.stop(index.into())?;
        self.ring(index)?.kick = file;
        self.start_if_ready(index.into())
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let ring = self.ring(index)?;
        if let Some(orders) = &ring.orders {
            // A ring that has ended is noticed when it is stopped.
            let _ = orders.send(Order::Call(notifier(file.as_ref())?));
        }
        ring.call = file;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let ring = self.ring(index)?;
        if let Some(orders) = &ring.orders {
            let _ = orders.send(Order::Error(notifier(file.as_ref())?));
        }
        ring.error = file;
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.enabled = enable;
        if enable { self.start_if_ready(index as usize) } else { self.stop(index as usize) }
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_offered()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        not_offered()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_offered()
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        not_offered()
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        not_offered()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered()
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_offered()
    }
}
