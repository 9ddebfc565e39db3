//! A guest's memory: how it is held, and pieces of it that a request names.

use std::fs::File;
use std::io;

use blockcow::ReadTarget;
use vm_memory::atomic::GuestMemoryLoadGuard;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice,
};

use crate::sys;

/// All memory of one guest, replaced as a whole when the front end says so.
pub type SharedMemory = GuestMemoryAtomic<GuestMemoryMmap>;

/// The memory as it was at one moment; mapped as long as this is held.
pub type Memory = GuestMemoryLoadGuard<GuestMemoryMmap>;

/// Some bytes of a guest's memory that were checked to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address.
    pub address: GuestAddress,
    /// Bytes; never 0.
    pub length: u32,
}

/// Bytes of all segments together.
pub(crate) fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length)).sum()
}

/// Segments that are filled from front to back.
#[derive(Debug)]
pub struct SegmentTarget<'a> {
    memory: &'a GuestMemoryMmap,
    segments: &'a [Segment],
    /// Bytes of the first segment that are filled.
    filled: u32,
}

/// What zeros are copied from.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Vectors of one system call (IOV_MAX is 1,024).
const MAX_VECTORS: usize = 256;

impl<'a> SegmentTarget<'a> {
    /// Fills these segments of this memory.
    pub fn new(memory: &'a GuestMemoryMmap, segments: &'a [Segment]) -> Self {
        Self { memory, segments, filled: 0 }
    }

    /// The next bytes that lie in one segment, at most `most`.
    fn head(&self, most: usize) -> io::Result<(GuestAddress, usize)> {
        let first = self.segments.first().ok_or(io::ErrorKind::InvalidInput)?;
        let length = (first.length - self.filled) as usize;
        let address = GuestAddress(first.address.0.wrapping_add(u64::from(self.filled)));
        Ok((address, length.min(most)))
    }

    fn advance(&mut self, mut count: usize) {
        while let Some((first, rest)) = self.segments.split_first() {
            let left = (first.length - self.filled) as usize;
            if count < left {
                // Less than the u32 it is compared with.
                self.filled += u32::try_from(count).unwrap_or(0);
                return;
            }
            count -= left;
            self.segments = rest;
            self.filled = 0;
        }
    }

    /// Copies what `source` gives for a number of bytes, until `length` bytes are filled.
    fn fill<'b>(
        &mut self,
        length: usize,
        mut source: impl FnMut(usize, usize) -> &'b [u8],
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let (address, count) = self.head(length - done)?;
            let bytes = source(done, count);
            self.memory.write_slice(bytes, address).map_err(io::Error::other)?;
            self.advance(bytes.len());
            done += bytes.len();
        }
        Ok(())
    }

    fn slices(&self, length: usize) -> io::Result<Vec<VolatileSlice<'a>>> {
        let mut rest = Self { ..*self };
        let mut slices = Vec::new();
        let mut left = length;
        while left > 0 && slices.len() < MAX_VECTORS {
            let (address, count) = rest.head(left)?;
            for slice in self.memory.get_slices(address, count) {
                slices.push(slice.map_err(io::Error::other)?);
            }
            rest.advance(count);
            left -= count;
        }
        Ok(slices)
    }
}

impl ReadTarget for SegmentTarget<'_> {
    fn remaining(&self) -> usize {
        let all: usize = self.segments.iter().map(|segment| segment.length as usize).sum();
        all - self.filled as usize
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fill(bytes.len(), |done, count| &bytes[done..done + count])
    }

    fn put_zeros(&mut self, length: usize) -> io::Result<()> {
        self.fill(length, |_, count| &ZEROS[..count.min(ZEROS.len())])
    }

    fn put_cached(&mut self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        let count = sys::read_cached(file, offset, &self.slices(length)?)?;
        self.advance(count);
        Ok(count)
    }
}
