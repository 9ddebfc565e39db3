//! From a chain of descriptors to the bytes of a FUSE request and the room for its reply.

use vfs::{Readable, Writable};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use crate::chain::{Chain, ChainError};
use crate::limits::MAX_RING_SIZE;
use crate::memory::Memory;
use crate::sys;

/// A request in the guest's memory, which stays mapped as long as this is held.
#[derive(Debug)]
pub struct Request {
    /// What the driver wrote.
    pub bytes: Readable,
    /// Where the reply goes; without room when none is wanted.
    pub reply: Writable,
}

/// Finds the request of a chain. A megabyte in pages is 256 descriptors and a few; the bound is
/// that of the ring itself (virtio 1.2, 2.7.5.3.1), for chains in indirect tables too.
pub fn parse(
    memory: &Memory,
    chain: DescriptorChain<&GuestMemoryMmap>,
) -> Result<Request, ChainError> {
    let Chain { readable, writable } = Chain::collect(memory, chain, MAX_RING_SIZE.into())?;
    let (bytes, reply) =
        sys::buffers(memory, &readable, &writable).ok_or(ChainError::OutsideMemory)?;
    Ok(Request { bytes, reply })
}
