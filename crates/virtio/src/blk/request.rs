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
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::config::SECTOR_BYTES;
use crate::chain::{Chain, ChainError};
use crate::limits::{MAX_DESCRIPTORS, MAX_REQUEST_BYTES, MAX_ZERO_RANGES, MAX_ZERO_SECTORS};
use crate::memory::{Segment, total};

/// Bytes of a request's header: type, reserved, sector.
const HEADER_BYTES: usize = 16;

/// Bytes of a range to discard or to zero: sector, number of sectors, flags.
const RANGE_BYTES: usize = 16;

/// What requests are checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Sectors of the disk.
    pub sectors: u64,
    /// Whether it can be changed.
    pub writable: bool,
}

/// Some bytes of a disk; whole sectors, and inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRange {
    /// First byte.
    pub offset: u64,
    /// How many; may be 0.
    pub length: u64,
}

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
    /// Write from this byte of the disk on, all of it inside the disk.
    Write {
        /// First byte; a multiple of 512.
        offset: u64,
        /// Where it comes from.
        segments: Vec<Segment>,
    },
    /// Forget what is in these ranges.
    Discard {
        /// At most [`MAX_ZERO_RANGES`], of at most [`MAX_ZERO_SECTORS`] each.
        ranges: Vec<DiskRange>,
    },
    /// Make these ranges zero.
    WriteZeroes {
        /// At most [`MAX_ZERO_RANGES`], of at most [`MAX_ZERO_SECTORS`] each.
        ranges: Vec<DiskRange>,
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

/// Reads the request of a chain, for a disk like this.
pub fn parse(
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
    geometry: Geometry,
) -> Result<Command, ChainError> {
    let Chain { mut readable, mut writable } = Chain::collect(memory, chain, MAX_DESCRIPTORS)?;
    let mut header = [0; HEADER_BYTES];
    if take(memory, &mut readable, &mut header)? < HEADER_BYTES {
        return Err(ChainError::NoHeader);
    }
    let last = writable.last_mut().ok_or(ChainError::NoStatus)?;
    last.length -= 1;
    let status = GuestAddress(last.address.0 + u64::from(last.length));
    if last.length == 0 {
        writable.pop();
    }
    let request = Request::new(memory, &header, readable, writable, geometry)?;
    Ok(Command { request, status })
}

impl Request {
    /// What a header and the data after it ask for, or how that is refused.
    fn new(
        memory: &GuestMemoryMmap,
        header: &[u8; HEADER_BYTES],
        readable: Vec<Segment>,
        writable: Vec<Segment>,
        geometry: Geometry,
    ) -> Result<Result<Self, Status>, ChainError> {
        let kind = u32_at(header, 0);
        let sector = u64_at(header, 8);
        let changes = |request| if geometry.writable { request } else { Err(Status::IoError) };
        Ok(match kind {
            VIRTIO_BLK_T_IN => geometry
                .data(sector, &writable)
                .map(|offset| Self::Read { offset, segments: writable }),
            VIRTIO_BLK_T_OUT if writable.is_empty() => changes(
                geometry
                    .data(sector, &readable)
                    .map(|offset| Self::Write { offset, segments: readable }),
            ),
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if writable.is_empty() => {
                let may_unmap = kind == VIRTIO_BLK_T_WRITE_ZEROES;
                let ranges = geometry.ranges(memory, readable, may_unmap)?;
                changes(ranges.map(|ranges| match kind {
                    VIRTIO_BLK_T_DISCARD => Self::Discard { ranges },
                    _ => Self::WriteZeroes { ranges },
                }))
            }
            VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            VIRTIO_BLK_T_GET_ID if total(&writable) >= u64::from(VIRTIO_BLK_ID_BYTES) => {
                Ok(Self::Identity { segments: writable })
            }
            VIRTIO_BLK_T_GET_ID
            | VIRTIO_BLK_T_OUT
            | VIRTIO_BLK_T_DISCARD
            | VIRTIO_BLK_T_WRITE_ZEROES
            | VIRTIO_BLK_T_SECURE_ERASE => Err(Status::IoError),
            _ => Err(Status::Unsupported),
        })
    }
}

impl Geometry {
    /// Where data of these segments lies on the disk.
    fn data(self, sector: u64, segments: &[Segment]) -> Result<u64, Status> {
        let sector_bytes = u64::from(SECTOR_BYTES);
        let length = total(segments);
        let end = sector.checked_add(length / sector_bytes).ok_or(Status::IoError)?;
        let whole = length > 0 && length.is_multiple_of(sector_bytes);
        if !whole || length > MAX_REQUEST_BYTES || end > self.sectors {
            return Err(Status::IoError);
        }
        Ok(sector * sector_bytes)
    }

    /// The ranges that these segments name (virtio 1.2, 5.2.6). Copied out of the guest's memory
    /// before they are checked.
    fn ranges(
        self,
        memory: &GuestMemoryMmap,
        mut segments: Vec<Segment>,
        may_unmap: bool,
    ) -> Result<Result<Vec<DiskRange>, Status>, ChainError> {
        let length = total(&segments);
        let most = u64::from(MAX_ZERO_RANGES) * RANGE_BYTES as u64;
        if length == 0 || !length.is_multiple_of(RANGE_BYTES as u64) || length > most {
            return Ok(Err(Status::IoError));
        }
        let mut ranges = Vec::new();
        let mut bytes = [0; RANGE_BYTES];
        while take(memory, &mut segments, &mut bytes)? == RANGE_BYTES {
            match self.range(&bytes, may_unmap) {
                Ok(range) => ranges.push(range),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        Ok(Ok(ranges))
    }

    fn range(self, bytes: &[u8; RANGE_BYTES], may_unmap: bool) -> Result<DiskRange, Status> {
        let (sector, count, flags) = (u64_at(bytes, 0), u32_at(bytes, 8), u32_at(bytes, 12));
        if flags & !u32::from(may_unmap) != 0 {
            return Err(Status::Unsupported);
        }
        let end = sector.checked_add(u64::from(count)).ok_or(Status::IoError)?;
        if count > MAX_ZERO_SECTORS || end > self.sectors {
            return Err(Status::IoError);
        }
        let [offset, length] =
            [sector, u64::from(count)].map(|sectors| sectors * u64::from(SECTOR_BYTES));
        Ok(DiskRange { offset, length })
    }
}

fn u32_at(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four of sixteen bytes"))
}

fn u64_at(bytes: &[u8; 16], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Fills the buffer from the front of the segments, and takes that off them. How many bytes there
/// were.
fn take(
    memory: &GuestMemoryMmap,
    segments: &mut Vec<Segment>,
    buffer: &mut [u8],
) -> Result<usize, ChainError> {
    let mut filled = 0;
    let mut emptied = 0;
    for segment in segments.iter_mut() {
        let count = (buffer.len() - filled).min(segment.length as usize);
        let part = &mut buffer[filled..filled + count];
        memory.read_slice(part, segment.address).map_err(|_| ChainError::OutsideMemory)?;
        filled += count;
        // No more than the u32 it is taken from.
        let taken = u32::try_from(count).unwrap_or(u32::MAX);
        segment.address = GuestAddress(segment.address.0.wrapping_add(u64::from(taken)));
        segment.length -= taken;
        if segment.length > 0 {
            break;
        }
        emptied += 1;
    }
    segments.drain(..emptied);
    Ok(filled)
}

#[cfg(test)]
mod tests;
