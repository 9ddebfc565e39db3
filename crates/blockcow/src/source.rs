//! Where the bytes of a write come from.

use std::io;

/// Memory that a write takes from front to back, each byte once.
///
/// A source is never touched by another thread than the one that polls the write.
pub trait WriteSource {
    /// Bytes still to be taken.
    fn remaining(&self) -> usize;

    /// Takes the next bytes, as many as the buffer has. At most [`WriteSource::remaining`] are
    /// asked for.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()>;
}

/// A slice as a source.
#[derive(Debug)]
pub struct BufferSource<'a> {
    rest: &'a [u8],
}

impl<'a> BufferSource<'a> {
    /// Takes from this slice.
    pub fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer }
    }
}

impl WriteSource for BufferSource<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let split = self.rest.split_at_checked(buffer.len());
        let (head, tail) = split.ok_or(io::ErrorKind::InvalidInput)?;
        buffer.copy_from_slice(head);
        self.rest = tail;
        Ok(())
    }
}
