//! What the store asks of the file system, so that tests can record it, cut it and refuse it.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// A file, locked for this process.
pub(super) trait StoreFile: Send + Sync {
    /// Fills the buffer; what lies beyond the end of the file is left as it is.
    fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Fills the buffer, if that takes no waiting; if not, what is in it means nothing.
    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> bool;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when everything written before is durable, the length included.
    fn sync(&self) -> io::Result<()>;
    /// Length, and bytes that it takes.
    fn size(&self) -> io::Result<(u64, u64)>;
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Sees to it that writes to this range do not fail for want of room, if it can.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives back what the range takes, if it can.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
}

impl StoreFile for File {
    fn read_at_most(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => break,
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> bool {
        let length = buffer.len();
        let part = &mut [IoSliceMut::new(buffer)];
        matches!(preadv2(self, part, offset, ReadWriteFlags::NOWAIT), Ok(count) if count == length)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<(u64, u64)> {
        let metadata = self.metadata()?;
        Ok((metadata.len(), metadata.blocks() * 512))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        if_supported(fallocate(self, FallocateFlags::empty(), offset, length))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if_supported(fallocate(self, flags, offset, length))
    }
}

fn if_supported(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        result => Ok(result?),
    }
}
