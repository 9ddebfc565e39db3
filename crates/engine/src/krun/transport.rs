//! virtio over MMIO (virtio 1.2, 4.2): the registers by which a driver sets a device up.
//!
//! ```text
//!  reset ─► ACKNOWLEDGE, DRIVER ─► features ─► FEATURES_OK ─► queues ─► DRIVER_OK ─► served
//!    ▲                                                                    │ broken: NEEDS_RESET
//!    └──────────────────────── status 0, at any time ─────────────────────┘
//! ```
//! A driver may write anything at any time. What is out of its turn is ignored.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use krun_devices::BusDevice;
use krun_utils::eventfd::{EFD_NONBLOCK, EventFd};
use virtio::{Interrupts, LocalDevice, RingSetup};

use crate::sys::descriptor::duplicate;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Where the configuration space begins.
const CONFIG: u64 = 0x100;
/// What a driver needs to know of a device that came after virtio 0.9.
const VERSION_1: u64 = 1 << 32;

/// Status bits (virtio 1.2, 2.1).
mod status {
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
    pub(super) const NEEDS_RESET: u32 = 64;
    pub(super) const FAILED: u32 = 128;
}

/// Interrupt bits.
const USED_BUFFER: u32 = 1;
const CONFIGURATION_CHANGE: u32 = 2;

/// Registers (virtio 1.2, 4.2.2).
mod register {
    pub(super) const MAGIC: u64 = 0x00;
    pub(super) const VERSION: u64 = 0x04;
    pub(super) const DEVICE_ID: u64 = 0x08;
    pub(super) const DEVICE_FEATURES: u64 = 0x10;
    pub(super) const DEVICE_FEATURES_SELECT: u64 = 0x14;
    pub(super) const DRIVER_FEATURES: u64 = 0x20;
    pub(super) const DRIVER_FEATURES_SELECT: u64 = 0x24;
    pub(super) const QUEUE_SELECT: u64 = 0x30;
    pub(super) const QUEUE_SIZE_MAX: u64 = 0x34;
    pub(super) const QUEUE_SIZE: u64 = 0x38;
    pub(super) const QUEUE_READY: u64 = 0x44;
    pub(super) const QUEUE_NOTIFY: u64 = 0x50;
    pub(super) const INTERRUPT_STATUS: u64 = 0x60;
    pub(super) const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
    pub(super) const STATUS: u64 = 0x70;
    pub(super) const DESCRIPTORS_LOW: u64 = 0x80;
    pub(super) const DESCRIPTORS_HIGH: u64 = 0x84;
    pub(super) const AVAILABLE_LOW: u64 = 0x90;
    pub(super) const AVAILABLE_HIGH: u64 = 0x94;
    pub(super) const USED_LOW: u64 = 0xa0;
    pub(super) const USED_HIGH: u64 = 0xa4;
    pub(super) const SHARED_MEMORY: std::ops::RangeInclusive<u64> = 0xb0..=0xbc;
}
pub(super) const NOTIFY: u64 = register::QUEUE_NOTIFY;

/// A device behind its registers.
pub(super) struct Transport {
    device: LocalDevice,
    status: u32,
    device_features_page: u32,
    driver_features_page: u32,
    /// What the driver has taken so far.
    features: u64,
    selected: u32,
    queues: Vec<Queue>,
    line: Arc<Line>,
}

/// A queue as the driver sets it up.
struct Queue {
    setup: Addresses,
    kick: EventFd,
}

#[derive(Debug, Clone, Copy, Default)]
struct Addresses {
    size: u32,
    is_ready: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

/// What the device's threads tell the driver.
struct Line {
    interrupt: EventFd,
    pending: AtomicU32,
    is_broken: AtomicBool,
}

impl Line {
    fn raise(&self, reason: u32) {
        self.pending.fetch_or(reason, Ordering::SeqCst);
        // It fails when it has been raised too often to count, and then it is raised.
        let _ = self.interrupt.write(1);
    }
}

impl Transport {
    pub(super) fn new(device: LocalDevice) -> io::Result<Self> {
        let queues = device.queue_sizes().iter().map(|_| {
            let kick = EventFd::new(EFD_NONBLOCK)?;
            Ok(Queue { setup: Addresses::default(), kick })
        });
        let queues = queues.collect::<io::Result<_>>()?;
        let line = Arc::new(Line {
            interrupt: EventFd::new(EFD_NONBLOCK)?,
            pending: AtomicU32::new(0),
            is_broken: AtomicBool::new(false),
        });
        Ok(Self {
            device,
            status: 0,
            device_features_page: 0,
            driver_features_page: 0,
            features: 0,
            selected: 0,
            queues,
            line,
        })
    }

    /// What is written when the guest is to be interrupted.
    pub(super) fn interrupt(&self) -> &EventFd {
        &self.line.interrupt
    }

    /// What is written when the driver notifies each queue.
    pub(super) fn kicks(&self) -> impl Iterator<Item = &EventFd> {
        self.queues.iter().map(|queue| &queue.kick)
    }

    /// Whether the device has ended by itself, which is a defect.
    pub(super) fn has_ended(&self) -> bool {
        self.device.is_finished()
    }

    fn status(&self) -> u32 {
        let broken = self.line.is_broken.load(Ordering::SeqCst);
        self.status | if broken { status::NEEDS_RESET } else { 0 }
    }

    fn read_register(&self, register: u64) -> u32 {
        let queue = usize::try_from(self.selected).ok().and_then(|index| self.queues.get(index));
        match register {
            register::MAGIC => MAGIC,
            register::VERSION => VERSION,
            register::DEVICE_ID => self.device.id(),
            register::DEVICE_FEATURES => page(self.device.features(), self.device_features_page),
            register::QUEUE_SIZE_MAX => {
                let index = usize::try_from(self.selected).unwrap_or(usize::MAX);
                self.device.queue_sizes().get(index).copied().map_or(0, u32::from)
            }
            register::QUEUE_READY => queue.map_or(0, |queue| u32::from(queue.setup.is_ready)),
            register::INTERRUPT_STATUS => self.line.pending.load(Ordering::SeqCst),
            register::STATUS => self.status(),
            // There is none: the length is -1.
            shared if register::SHARED_MEMORY.contains(&shared) => u32::MAX,
            // The vendor, and how often the configuration has changed: it does not.
            _ => 0,
        }
    }

    fn write_register(&mut self, register: u64, value: u32) {
        match register {
            register::DEVICE_FEATURES_SELECT => self.device_features_page = value,
            register::DRIVER_FEATURES_SELECT => self.driver_features_page = value,
            register::DRIVER_FEATURES => self.take_features(value),
            register::QUEUE_SELECT => self.selected = value,
            register::QUEUE_NOTIFY => {
                // KVM does this by itself for whole words.
                let index = usize::try_from(value).ok();
                if let Some(queue) = index.and_then(|index| self.queues.get(index)) {
                    let _ = queue.kick.write(1);
                }
            }
            register::INTERRUPT_ACKNOWLEDGE => {
                self.line.pending.fetch_and(!value, Ordering::SeqCst);
            }
            register::STATUS if value == 0 => self.reset(),
            register::STATUS => self.advance(value),
            _ => self.set_up_queue(register, value),
        }
    }

    fn take_features(&mut self, value: u32) {
        if self.status & (status::DRIVER | status::FEATURES_OK) != status::DRIVER {
            return;
        }
        let shift = match self.driver_features_page {
            0 => 0,
            1 => 32,
            // None of them was offered.
            _ => return,
        };
        self.features &= !(u64::from(u32::MAX) << shift);
        self.features |= u64::from(value) << shift;
    }

    fn set_up_queue(&mut self, register: u64, value: u32) {
        let is_time =
            self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::FEATURES_OK;
        let index = usize::try_from(self.selected).ok();
        let Some(queue) = index.and_then(|index| self.queues.get_mut(index)) else { return };
        let setup = &mut queue.setup;
        match register {
            register::QUEUE_READY if value == 0 => setup.is_ready = false,
            register::QUEUE_READY => setup.is_ready |= is_time && value == 1,
            _ if !is_time || setup.is_ready => {}
            register::QUEUE_SIZE => setup.size = value,
            register::DESCRIPTORS_LOW => set_low(&mut setup.descriptors, value),
            register::DESCRIPTORS_HIGH => set_high(&mut setup.descriptors, value),
            register::AVAILABLE_LOW => set_low(&mut setup.available, value),
            register::AVAILABLE_HIGH => set_high(&mut setup.available, value),
            register::USED_LOW => set_low(&mut setup.used, value),
            register::USED_HIGH => set_high(&mut setup.used, value),
            _ => {}
        }
    }

    /// Sets those of the bits whose time has come.
    fn advance(&mut self, value: u32) {
        let begun = status::ACKNOWLEDGE | status::DRIVER;
        self.status |= value & (begun | status::FAILED);
        let offered = self.device.features();
        let may_agree = self.status & begun == begun
            && self.features & !offered == 0
            && self.features & VERSION_1 != 0;
        if value & status::FEATURES_OK != 0 && may_agree {
            self.status |= status::FEATURES_OK;
        }
        let ready = self.status & (status::FEATURES_OK | status::DRIVER_OK | status::FAILED);
        if value & status::DRIVER_OK != 0 && ready == status::FEATURES_OK {
            self.status |= status::DRIVER_OK;
            self.activate();
        }
    }

    fn activate(&mut self) {
        let mut setups = Vec::new();
        for (index, Queue { setup, kick }) in self.queues.iter().enumerate() {
            if !setup.is_ready {
                continue;
            }
            match duplicate(kick) {
                Ok(kick) => setups.push(RingSetup {
                    queue: index,
                    // Too large for a ring, whatever it was.
                    size: u16::try_from(setup.size).unwrap_or(u16::MAX),
                    descriptors: setup.descriptors,
                    available: setup.available,
                    used: setup.used,
                    kick,
                }),
                Err(error) => {
                    tracing::error!(%error, "a device's queue is not served");
                    self.line.is_broken.store(true, Ordering::SeqCst);
                }
            }
        }
        let (used, broken) = (Arc::clone(&self.line), Arc::clone(&self.line));
        let interrupts = Interrupts {
            used: Arc::new(move || used.raise(USED_BUFFER)),
            broken: Arc::new(move || {
                broken.is_broken.store(true, Ordering::SeqCst);
                broken.raise(CONFIGURATION_CHANGE);
            }),
        };
        if let Err(error) = self.device.activate(self.features, setups, &interrupts) {
            tracing::debug!(%error, id = self.device.id(), "a driver's device is not served");
            (interrupts.broken)();
        }
    }

    fn reset(&mut self) {
        self.device.reset();
        self.status = 0;
        self.device_features_page = 0;
        self.driver_features_page = 0;
        self.features = 0;
        self.selected = 0;
        self.queues.iter_mut().for_each(|queue| queue.setup = Addresses::default());
        // Nobody but this touches it until the device is set up again.
        self.line.is_broken.store(false, Ordering::SeqCst);
        self.line.pending.store(0, Ordering::SeqCst);
    }
}

impl BusDevice for Transport {
    fn read(&mut self, _cpu: u64, offset: u64, data: &mut [u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.device.read_config(offset, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    /// Nothing that a driver may write into the configuration space is used.
    fn write(&mut self, _cpu: u64, offset: u64, data: &[u8]) {
        if let (true, Ok(word)) = (offset < CONFIG, <[u8; 4]>::try_from(data)) {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}

fn page(features: u64, page: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match page {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & u64::from(u32::MAX) | u64::from(value) << 32;
}

#[cfg(test)]
mod tests;
