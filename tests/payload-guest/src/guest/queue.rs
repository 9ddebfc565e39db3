//! One split ring (virtio 1.2, 2.7), from the driver's side.

use super::{Problem, sys};

/// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

/// A ring, and what the driver knows of it.
#[derive(Clone, Copy)]
pub(crate) struct Queue {
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    /// The first of the descriptors that are free; each names the next.
    free: u16,
    free_count: u16,
    next_available: u16,
    last_used: u16,
}

/// What the device has given back.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) head: u16,
    pub(crate) length: u32,
}

impl Queue {
    pub(crate) const NONE: Self = Self {
        size: 0,
        descriptors: 0,
        available: 0,
        used: 0,
        free: 0,
        free_count: 0,
        next_available: 0,
        last_used: 0,
    };
    /// Most descriptors.
    pub(crate) const MAX_SIZE: u16 = 256;
    /// Memory of a ring of that size: three parts on pages of their own.
    const BYTES: u64 = 3 * 4096;

    /// An empty ring.
    pub(crate) fn begin(&mut self, size: u16, rings: &mut u64) {
        let memory = if self.descriptors == 0 { *rings } else { self.descriptors };
        *rings += if self.descriptors == 0 { Self::BYTES } else { 0 };
        sys::fill(memory, Self::BYTES, 0);
        *self = Self {
            size,
            descriptors: memory,
            available: memory + 4096,
            used: memory + 8192,
            free_count: size,
            ..Self::NONE
        };
        for index in 0..size {
            sys::write16(self.descriptor(index) + 14, index + 1);
        }
    }

    fn descriptor(&self, index: u16) -> u64 {
        self.descriptors + u64::from(index) * 16
    }

    /// Address, length, flags and next of a descriptor.
    pub(crate) fn read(&self, index: u16) -> (u64, u32, u16, u16) {
        let at = self.descriptor(index % self.size.max(1));
        (sys::read64(at), sys::read32(at + 8), sys::read16(at + 12), sys::read16(at + 14))
    }

    /// Sets a descriptor, whatever it is used for.
    pub(crate) fn write(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = self.descriptor(index);
        sys::write64(at, address);
        sys::write32(at + 8, length);
        sys::write16(at + 12, flags);
        sys::write16(at + 14, next);
    }

    /// Takes a free descriptor.
    pub(crate) fn allocate(&mut self) -> Result<u16, Problem> {
        if self.free_count == 0 {
            return Err("the ring is full");
        }
        let index = self.free;
        self.free = self.read(index).3;
        self.free_count -= 1;
        Ok(index)
    }

    /// Gives a chain's descriptors back.
    pub(crate) fn release(&mut self, head: u16) {
        let mut index = head;
        loop {
            let (address, length, flags, next) = self.read(index);
            self.write(index, address, length, flags, self.free);
            self.free = index;
            self.free_count += 1;
            if flags & NEXT == 0 || self.free_count >= self.size {
                return;
            }
            index = next;
        }
    }

    /// Chains that are under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.free_count == self.size
    }

    /// Makes a chain available, whatever it is.
    pub(crate) fn push(&mut self, head: u16) {
        let slot = u64::from(self.next_available % self.size);
        sys::write16(self.available + 4 + slot * 2, head);
        self.next_available = self.next_available.wrapping_add(1);
        // Stores of a processor of this kind are seen in their order.
        sys::write16(self.available + 2, self.next_available);
    }

    /// How many chains the device has given back that were not taken.
    pub(crate) fn returned(&self) -> u16 {
        sys::read16(self.used + 2).wrapping_sub(self.last_used)
    }

    /// Takes what the device has given back first.
    pub(crate) fn take(&mut self) -> Option<Used> {
        if self.size == 0 || self.returned() == 0 {
            return None;
        }
        let entry = self.used + 4 + u64::from(self.last_used % self.size) * 8;
        self.last_used = self.last_used.wrapping_add(1);
        Some(Used { head: sys::read32(entry) as u16, length: sys::read32(entry + 4) })
    }

    /// Waits for that.
    pub(crate) fn wait(&mut self) -> Result<Used, Problem> {
        sys::wait(|| self.take(), "the device does not answer")
    }
}
