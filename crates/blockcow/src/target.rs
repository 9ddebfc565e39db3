//! Where the bytes of a read go.

use std::fs::File;
use std::io;

/// Memory that a read fills from front to back, each byte once.
///
/// A target is never touched by another thread than the one that polls the read, so it may be
/// memory that must not be written any more once the read was dropped.
pub trait ReadTarget {
    /// Bytes still to be filled.
    fn remaining(&self) -> usize;

    /// Fills the next bytes. At most [`ReadTarget::remaining`] are given.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Fills the next bytes with zeros.
    fn put_zeros(&mut self, length: usize) -> io::Result<()>;

    /// Fills up to `length` next bytes from the file, without waiting for a device: what is in
    /// the page cache. Returns how many, 0 when none are.
    fn put_cached(&mut self, _file: &File, _offset: u64, _length: usize) -> io::Result<usize> {
        Ok(0)
    }
}

/// A slice as a target.
#[derive(Debug)]
pub struct BufferTarget<'a> {
    rest: &'a mut [u8],
}

impl<'a> BufferTarget<'a> {
    /// Fills this slice.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { rest: buffer }
    }

    fn take(&mut self, length: usize) -> io::Result<&'a mut [u8]> {
        let whole = std::mem::take(&mut self.rest);
        let (head, tail) = whole.split_at_mut_checked(length).ok_or(io::ErrorKind::InvalidInput)?;
        self.rest = tail;
        Ok(head)
    }
}

impl ReadTarget for BufferTarget<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.take(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn put_zeros(&mut self, length: usize) -> io::Result<()> {
        self.take(length)?.fill(0);
        Ok(())
    }
}
