//! One virtio-mmio device: its registers (virtio 1.2, 4.2.2), and the way to its queues (3.1.1).

use super::boot::Boot;
use super::queue::Queue;
use super::{Problem, sys};

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;

pub(crate) const VERSION_1: u64 = 1 << 32;
/// What changes rings, or how they are used, in ways that this guest does not know: event indices,
/// packed rings, an IOMMU, data in notifications, resets of single queues, and what comes after.
const UNKNOWN: u64 = !(VERSION_1 * 2 - 1) | 1 << 29;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;

/// Offsets of registers.
pub(crate) mod register {
    pub(crate) const MAGIC: u64 = 0;
    pub(crate) const VERSION: u64 = 4;
    pub(crate) const DEVICE: u64 = 8;
    pub(crate) const DEVICE_FEATURES: u64 = 0x10;
    pub(crate) const DEVICE_FEATURES_SELECT: u64 = 0x14;
    pub(crate) const DRIVER_FEATURES: u64 = 0x20;
    pub(crate) const DRIVER_FEATURES_SELECT: u64 = 0x24;
    pub(crate) const QUEUE_SELECT: u64 = 0x30;
    pub(crate) const QUEUE_SIZE_MAX: u64 = 0x34;
    pub(crate) const QUEUE_SIZE: u64 = 0x38;
    pub(crate) const QUEUE_READY: u64 = 0x44;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x50;
    pub(crate) const STATUS: u64 = 0x70;
    pub(crate) const DESCRIPTORS: u64 = 0x80;
    pub(crate) const AVAILABLE: u64 = 0x90;
    pub(crate) const USED: u64 = 0xa0;
    pub(crate) const CONFIGURATION: u64 = 0x100;
}

/// One device.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) address: u64,
    pub(crate) interrupt: u64,
    /// Type of the device (virtio 1.2, 5).
    pub(crate) kind: u32,
    pub(crate) queues: [Queue; Self::MAX_QUEUES],
    pub(crate) queue_count: usize,
}

impl Device {
    pub(crate) const MAX_QUEUES: usize = 8;

    fn at(address: u64, interrupt: u64) -> Option<Self> {
        let known = sys::read32(address + register::MAGIC) == MAGIC
            && sys::read32(address + register::VERSION) == VERSION;
        let kind = sys::read32(address + register::DEVICE);
        let queues = [Queue::NONE; Self::MAX_QUEUES];
        (known && kind != 0).then_some(Self { address, interrupt, kind, queues, queue_count: 0 })
    }

    pub(crate) fn read(&self, register: u64) -> u32 {
        sys::read32(self.address + register)
    }

    pub(crate) fn write(&self, register: u64, value: u32) {
        sys::write32(self.address + register, value);
    }

    fn write_address(&self, register: u64, address: u64) {
        self.write(register, address as u32);
        self.write(register + 4, (address >> 32) as u32);
    }

    /// What the device offers.
    pub(crate) fn features(&self) -> u64 {
        let half = |select| {
            self.write(register::DEVICE_FEATURES_SELECT, select);
            u64::from(self.read(register::DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// Puts the device back to its beginning.
    pub(crate) fn reset(&mut self) -> Result<(), Problem> {
        self.write(register::STATUS, 0);
        let done = || (self.read(register::STATUS) == 0).then_some(());
        sys::wait(done, "the device does not reset")?;
        self.queue_count = 0;
        Ok(())
    }

    /// Begins anew with these of its features and rings of at most `size` descriptors; what was
    /// agreed upon. Each queue takes its memory from `rings` the first time.
    pub(crate) fn set_up(&mut self, mask: u64, size: u16, rings: &mut u64) -> Result<u64, Problem> {
        self.reset()?;
        self.write(register::STATUS, ACKNOWLEDGE);
        self.write(register::STATUS, ACKNOWLEDGE | DRIVER);
        let agreed = self.features() & mask & !UNKNOWN;
        for select in [0, 1] {
            self.write(register::DRIVER_FEATURES_SELECT, select);
            self.write(register::DRIVER_FEATURES, (agreed >> (select * 32)) as u32);
        }
        let agreeing = ACKNOWLEDGE | DRIVER | FEATURES_OK;
        self.write(register::STATUS, agreeing);
        if self.read(register::STATUS) != agreeing {
            return Err("the device does not take these features");
        }
        self.set_up_queues(size, rings)?;
        self.write(register::STATUS, agreeing | DRIVER_OK);
        match self.read(register::STATUS) == agreeing | DRIVER_OK {
            true => Ok(agreed),
            false => Err("the device does not start"),
        }
    }

    fn set_up_queues(&mut self, size: u16, rings: &mut u64) -> Result<(), Problem> {
        for index in 0..Self::MAX_QUEUES {
            self.write(register::QUEUE_SELECT, index as u32);
            let most = self.read(register::QUEUE_SIZE_MAX).min(Queue::MAX_SIZE.into()) as u16;
            if most == 0 {
                break;
            }
            if self.read(register::QUEUE_READY) != 0 {
                return Err("a queue is ready before it is set up");
            }
            let mut queue = self.queues[index];
            queue.begin(most.min(size), rings);
            self.write(register::QUEUE_SIZE, queue.size.into());
            self.write_address(register::DESCRIPTORS, queue.descriptors);
            self.write_address(register::AVAILABLE, queue.available);
            self.write_address(register::USED, queue.used);
            self.write(register::QUEUE_READY, 1);
            if self.read(register::QUEUE_READY) != 1 {
                return Err("a queue does not become ready");
            }
            self.queues[index] = queue;
            self.queue_count = index + 1;
        }
        Ok(())
    }

    /// Tells the device to look at a queue.
    pub(crate) fn notify(&self, queue: usize) {
        self.write(register::QUEUE_NOTIFY, queue as u32);
    }

    pub(crate) fn queue(&mut self, index: usize) -> Result<&mut Queue, Problem> {
        self.queues[..self.queue_count].get_mut(index).ok_or("there is no such queue")
    }
}

/// All devices that the command line names (`virtio_mmio.device=SIZE@ADDRESS:INTERRUPT`, of Linux'
/// drivers/virtio/virtio_mmio.c), in that order.
pub(crate) struct Devices {
    list: [Option<Device>; Self::MAX],
    pub(crate) count: usize,
}

impl Devices {
    const MAX: usize = 32;

    pub(crate) fn find(boot: &Boot) -> Self {
        const NAME: &[u8] = b"virtio_mmio.device=";
        let mut found = Self { list: [None; Self::MAX], count: 0 };
        let mut at = 0;
        let mut matched = 0;
        while boot.character(at) != 0 {
            let character = boot.character(at);
            at += 1;
            matched = if character == NAME[matched] { matched + 1 } else { 0 };
            if matched < NAME.len() {
                continue;
            }
            matched = 0;
            while !matches!(boot.character(at), b'@' | b' ' | 0) {
                at += 1;
            }
            let address = Self::number(boot, &mut at);
            let interrupt = Self::number(boot, &mut at);
            let device = Device::at(address, interrupt);
            if device.is_some() && found.count < Self::MAX {
                found.list[found.count] = device;
                found.count += 1;
            }
        }
        found
    }

    /// The number after the character at `at`.
    fn number(boot: &Boot, at: &mut u64) -> u64 {
        let mut radix = 10;
        let mut number = 0u64;
        *at += 1;
        if boot.character(*at) == b'0' && boot.character(*at + 1) == b'x' {
            *at += 2;
            radix = 16;
        }
        while let Some(digit) = char::from(boot.character(*at)).to_digit(radix) {
            number = number.wrapping_mul(radix.into()).wrapping_add(digit.into());
            *at += 1;
        }
        number
    }

    pub(crate) fn get(&mut self, index: usize) -> Result<&mut Device, Problem> {
        self.list.get_mut(index).and_then(Option::as_mut).ok_or("there is no such device")
    }
}
