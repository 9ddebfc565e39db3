//! Requests: from a chain of descriptors to something that cannot be wrong any more.
//!
//! What a driver may put into a chain is checked here and nowhere else. Framing is the driver's
//! (virtio 1.2, 2.7.4.3): the header may be spread over descriptors, and the status byte may end
//! one that began with data. Two kinds of wrong are told apart: a chain that has no place for an
//! answer or contradicts itself ([`ChainError`], the ring is not served any more), and a request
//! that is well-formed but not possible (answered with a [`Status`]).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_SECURE_ERASE, VIRTIO_BLK_T_WRITE_ZEROES,
};
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::config::SECTOR_BYTES;
use crate::limits::{MAX_DESCRIPTORS, MAX_REQUEST_BYTES};
use crate::memory::Segment;

/// Bytes of a request's header: type, reserved, sector.
const HEADER_BYTES: usize = 16;

/// The answer to a request (virtio 1.2, 5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok,
    /// Failed, or forbidden.
    IoError,
    /// Not a request this device knows.
    Unsupported,
}

impl Status {
    /// The byte the driver reads.
    pub fn code(self) -> u8 {
        let code = match self {
            Self::Ok => VIRTIO_BLK_S_OK,
            Self::IoError => VIRTIO_BLK_S_IOERR,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
        };
        u8::try_from(code).expect("status codes are 0 to 2")
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Read from this byte of the disk on, all of it inside the disk.
    Read {
        /// First byte; a multiple of 512.
        offset: u64,
        /// Where it goes.
        segments: Vec<Segment>,
    },
    /// Make durable what was written.
    Flush,
    /// The disk's serial, into the first 20 bytes.
    Identity {
        /// Where it goes; 20 bytes or more.
        segments: Vec<Segment>,
    },
}

/// A chain that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The request, or how to refuse it.
    pub request: Result<Request, Status>,
    /// Where the status goes.
    pub status: GuestAddress,
}

/// A chain that cannot be answered. Its driver is not one to be trusted with more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A loop, a link out of the table, a bad indirect table, no descriptor at all, or more than
    /// 4 GiB.
    #[error("A descriptor chain has no end")]
    Endless,
    /// More than [`MAX_DESCRIPTORS`].
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
    /// Fewer than 16 bytes to read.
    #[error("A request has no header")]
    NoHeader,
    /// Nothing to write the status to.
    #[error("A request has no place for its status")]
    NoStatus,
}

/// Reads the request of a chain, for a disk of this many sectors.
pub fn parse(
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
    sectors: u64,
) -> Result<Command, ChainError> {
    let (readable, mut writable) = collect(memory, chain)?;
    let header = read_header(memory, &readable)?;
    let last = writable.last_mut().ok_or(ChainError::NoStatus)?;
    last.length -= 1;
    let status = GuestAddress(last.address.0 + u64::from(last.length));
    if last.length == 0 {
        writable.pop();
    }
    Ok(Command { request: Request::new(&header, writable, sectors), status })
}

impl Request {
    fn new(
        header: &[u8; HEADER_BYTES],
        segments: Vec<Segment>,
        sectors: u64,
    ) -> Result<Self, Status> {
        let [kind, _reserved, low, high] = [0, 4, 8, 12].map(|at| {
            u32::from_le_bytes(header[at..at + 4].try_into().expect("four of sixteen bytes"))
        });
        let sector = u64::from(high) << 32 | u64::from(low);
        let length: u64 = segments.iter().map(|segment| u64::from(segment.length)).sum();
        match kind {
            VIRTIO_BLK_T_IN => {
                let sector_bytes = u64::from(SECTOR_BYTES);
                let end = sector.checked_add(length / sector_bytes).ok_or(Status::IoError)?;
                let whole = length > 0 && length.is_multiple_of(sector_bytes);
                if !whole || length > MAX_REQUEST_BYTES || end > sectors {
                    return Err(Status::IoError);
                }
                Ok(Self::Read { offset: sector * sector_bytes, segments })
            }
            VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            VIRTIO_BLK_T_GET_ID if length >= u64::from(VIRTIO_BLK_ID_BYTES) => {
                Ok(Self::Identity { segments })
            }
            VIRTIO_BLK_T_GET_ID
            | VIRTIO_BLK_T_OUT
            | VIRTIO_BLK_T_DISCARD
            | VIRTIO_BLK_T_WRITE_ZEROES
            | VIRTIO_BLK_T_SECURE_ERASE => Err(Status::IoError),
            _ => Err(Status::Unsupported),
        }
    }
}

/// What the device may read, and what it may write, of a whole chain.
fn collect(
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
) -> Result<(Vec<Segment>, Vec<Segment>), ChainError> {
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    // The iterator ends at a chain's end and at anything it cannot follow; only at the former
    // has the last descriptor no successor.
    let mut ended = false;
    for descriptor in chain {
        if readable.len() + writable.len() == MAX_DESCRIPTORS {
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
    if ended { Ok((readable, writable)) } else { Err(ChainError::Endless) }
}

fn read_header(
    memory: &GuestMemoryMmap,
    readable: &[Segment],
) -> Result<[u8; HEADER_BYTES], ChainError> {
    let mut header = [0; HEADER_BYTES];
    let mut rest = &mut header[..];
    for segment in readable {
        let count = rest.len().min(segment.length as usize);
        let (part, tail) = rest.split_at_mut(count);
        memory.read_slice(part, segment.address).map_err(|_| ChainError::OutsideMemory)?;
        rest = tail;
    }
    if rest.is_empty() { Ok(header) } else { Err(ChainError::NoHeader) }
}

#[cfg(test)]
mod tests;
