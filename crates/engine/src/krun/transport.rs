//! A device of ours behind libkrun's virtio-mmio transport.

use std::sync::{Arc, Mutex};

use krun_devices::legacy::IrqChip;
use krun_devices::virtio::{
    ActivateResult, CreateMmioTransportError, DeviceQueue, InterruptTransport, MmioTransport,
    QueueConfig, VirtioDevice,
};
use krun_memory::GuestMemoryMmap;
use virtio::{Interrupt, LocalDevice, RingSetup};

use crate::error::StartError;
use crate::sys::descriptor::duplicate;

/// A transport with a device behind it.
pub(super) fn transport(
    device: Arc<Mutex<Adapter>>,
    interrupts: IrqChip,
) -> Result<MmioTransport, StartError> {
    // Guest memory is the device's affair: the transport only hands it on.
    MmioTransport::new(GuestMemoryMmap::new(), interrupts, device).map_err(|error| {
        let CreateMmioTransportError::CreateInterruptEventFd(source) = error;
        StartError::Resource { what: "a device's interrupt", source }
    })
}

/// A device as libkrun wants one.
pub(super) struct Adapter {
    device: LocalDevice,
    queues: Vec<QueueConfig>,
    features: u64,
    is_active: bool,
}

impl Adapter {
    pub(super) fn new(device: LocalDevice) -> Self {
        let queues = device.queue_sizes().iter().map(|size| QueueConfig::new(*size)).collect();
        Self { device, queues, features: 0, is_active: false }
    }

    /// Whether the device has ended by itself, which is a defect.
    pub(super) fn has_ended(&self) -> bool {
        self.device.is_finished()
    }
}

impl VirtioDevice for Adapter {
    fn avail_features(&self) -> u64 {
        self.device.features()
    }

    fn acked_features(&self) -> u64 {
        self.features
    }

    fn set_acked_features(&mut self, features: u64) {
        self.features = features;
    }

    fn device_type(&self) -> u32 {
        self.device.id()
    }

    fn device_name(&self) -> &str {
        "lanebox"
    }

    fn queue_config(&self) -> &[QueueConfig] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    /// Nothing that a driver may set is used.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// Never fails: the transport would take the whole machine for broken. A ring that cannot be
    /// is not served.
    fn activate(
        &mut self,
        _memory: GuestMemoryMmap,
        interrupt: InterruptTransport,
        queues: Vec<DeviceQueue>,
    ) -> ActivateResult {
        self.is_active = true;
        let mut setups = Vec::new();
        for (index, DeviceQueue { queue, event }) in queues.into_iter().enumerate() {
            if !queue.ready {
                continue;
            }
            match duplicate(&*event) {
                Ok(kick) => setups.push(RingSetup {
                    queue: index,
                    size: queue.size,
                    descriptors: queue.desc_table.0,
                    available: queue.avail_ring.0,
                    used: queue.used_ring.0,
                    kick,
                }),
                Err(error) => tracing::error!(%error, "a ring is not served"),
            }
        }
        let interrupt: Interrupt = Arc::new(move || interrupt.signal_used_queue());
        if let Err(error) = self.device.activate(self.features, setups, &interrupt) {
            let id = self.device.id();
            tracing::warn!(%error, id, "a device of the guest is not served as it set it up");
        }
        Ok(())
    }

    fn is_activated(&self) -> bool {
        self.is_active
    }

    fn reset(&mut self) -> bool {
        self.device.reset();
        self.features = 0;
        self.is_active = false;
        true
    }
}
