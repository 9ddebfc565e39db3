//! Room for bytes that go to the guest.

use std::fmt;
use std::os::fd::BorrowedFd;

use super::sys::{ReadMode, Segments};
use crate::Errno;

/// Room for one reply.
pub struct Writable {
    segments: Segments,
}

impl Writable {
    pub(super) fn over(segments: Segments) -> Self {
        Self { segments }
    }

    /// Memory of its own, for transports that send a reply from one buffer.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { segments: Segments::heap(vec![0; capacity]) }
    }

    /// How many bytes there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.segments.len()
    }

    /// The first `length` bytes, after a reply was made.
    #[must_use]
    pub fn to_vec(&self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(self.capacity())];
        self.segments.copy_out(0, &mut bytes);
        bytes
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> usize {
        self.segments.copy_in(at, bytes)
    }

    /// The room behind the first `at` bytes, at most `limit` of it.
    pub(crate) fn body(&mut self, at: usize, limit: usize) -> Body<'_> {
        let room = self.capacity().saturating_sub(at).min(limit);
        Body { segments: &mut self.segments, start: at, room, filled: 0 }
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writable({} bytes)", self.capacity())
    }
}

/// Where the answer to a READ goes: straight into the guest's buffers.
pub struct Body<'a> {
    segments: &'a mut Segments,
    start: usize,
    room: usize,
    filled: usize,
}

impl Body<'_> {
    /// How many bytes may still be put.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room - self.filled
    }

    /// How many bytes were put.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Appends `bytes`; the number there was room for.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        let done = self.segments.copy_in(self.start + self.filled, &bytes[..count]);
        self.filled += done;
        done
    }

    /// Appends from a file at `offset`: one system call. `Ok(0)` is the file's end. With
    /// `NoWait`, `EAGAIN` when the page cache has nothing, `EOPNOTSUPP` when that file cannot say.
    pub(crate) fn read_from(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        mode: ReadMode,
    ) -> Result<usize, Errno> {
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        let window = (self.start + self.filled, self.room());
        if window.1 == 0 {
            return Ok(0);
        }
        let done = self.segments.read_file(file, offset, window, mode)?;
        self.filled += done;
        Ok(done)
    }
}
