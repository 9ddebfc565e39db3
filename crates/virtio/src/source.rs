//! Segments of a guest's memory that something is made of: a disk's blocks, a frame.

use std::io;

use blockcow::WriteSource;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::memory::Segment;

/// Segments that are taken from front to back. Each byte is read once, so that a guest that
/// changes it meanwhile changes what is written, and nothing else.
#[derive(Debug)]
pub(crate) struct SegmentSource<'a> {
    memory: &'a GuestMemoryMmap,
    segments: &'a [Segment],
    /// Bytes of the first segment that are taken.
    taken: usize,
}

impl<'a> SegmentSource<'a> {
    pub(crate) fn new(memory: &'a GuestMemoryMmap, segments: &'a [Segment]) -> Self {
        Self { memory, segments, taken: 0 }
    }
}

impl WriteSource for SegmentSource<'_> {
    fn remaining(&self) -> usize {
        let all: usize = self.segments.iter().map(|segment| segment.length as usize).sum();
        all - self.taken
    }

    fn take(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let (first, rest) = self.segments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let left = first.length as usize - self.taken;
            let count = left.min(buffer.len());
            let (part, tail) = buffer.split_at_mut(count);
            let address = GuestAddress(first.address.0.wrapping_add(self.taken as u64));
            self.memory.read_slice(part, address).map_err(io::Error::other)?;
            buffer = tail;
            self.taken += count;
            if count == left {
                self.segments = rest;
                self.taken = 0;
            }
        }
        Ok(())
    }
}
