//! Descriptor chains: what a driver hands over, checked to be memory of the guest.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::memory::Segment;

/// A chain's two parts, each in its order. Pieces may overlap: what a driver does to itself is
/// its own affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// What the device reads.
    pub readable: Vec<Segment>,
    /// What the device writes.
    pub writable: Vec<Segment>,
}

/// A chain that contradicts itself, or has no room for what every request has. Its driver is not one to be trusted with more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A loop, a link out of the table, a bad indirect table, no descriptor at all, or more than
    /// 4 GiB.
    #[error("A descriptor chain has no end")]
    Endless,
    /// More descriptors than the device takes.
    #[error("A descriptor chain is too long")]
    TooLong,
    /// A descriptor of no bytes.
    #[error("A descriptor is empty")]
    Empty,
    /// A descriptor that is not in the guest's memory, or not all of it.
    #[error("A descriptor is outside of the memory")]
    OutsideMemory,
    /// What the device reads must come before what it writes (virtio 1.2, 2.7.4.2).
    #[error("A readable descriptor follows a writable one")]
    Order,
    /// Less to read than a request of the device begins with.
    #[error("A request has no header")]
    NoHeader,
    /// Nothing to write an answer to.
    #[error("A request has no place for an answer")]
    NoRoom,
    /// Nothing to write the status to.
    #[error("A request has no place for its status")]
    NoStatus,
}

impl Chain {
    /// Follows a chain of at most `most` descriptors to its end.
    pub fn collect(
        memory: &GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
        most: usize,
    ) -> Result<Self, ChainError> {
        let (mut readable, mut writable) = (Vec::new(), Vec::new());
        // The iterator ends at a chain's end and at anything it cannot follow; only at the former
        // has the last descriptor no successor.
        let mut ended = false;
        for descriptor in chain {
            if readable.len() + writable.len() == most {
                return Err(ChainError::TooLong);
            }
            let segment = Segment { address: descriptor.addr(), length: descriptor.len() };
            if segment.length == 0 {
                return Err(ChainError::Empty);
            }
            if !memory.check_range(segment.address, segment.length as usize) {
                return Err(ChainError::OutsideMemory);
            }
            match (descriptor.is_write_only(), writable.is_empty()) {
                (true, _) => writable.push(segment),
                (false, true) => readable.push(segment),
                (false, false) => return Err(ChainError::Order),
            }
            ended = !descriptor.has_next();
        }
        if ended { Ok(Self { readable, writable }) } else { Err(ChainError::Endless) }
    }
}
