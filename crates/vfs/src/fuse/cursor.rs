//! Reading the fields of a structure one after the other.

use crate::{Errno, Name};

/// Over the arguments of one request. Every method fails with `EINVAL` when bytes are missing.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(Errno::EINVAL)?;
        self.bytes = rest;
        Ok(*head)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_le_bytes)
    }

    /// Steps over `N` bytes of padding.
    pub(super) fn skip<const N: usize>(&mut self) -> Result<(), Errno> {
        self.take::<N>().map(drop)
    }

    /// Bytes up to the next NUL, which is consumed too.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or(Errno::EINVAL)?;
        let (string, rest) = self.bytes.split_at(end);
        self.bytes = &rest[1..];
        Ok(string)
    }

    pub(super) fn name(&mut self) -> Result<Name, Errno> {
        Name::new(self.string()?)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Fails when anything is left: a name with a NUL in it for instance.
    pub(super) fn end(&self) -> Result<(), Errno> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
    }
}
