//! Bytes that came from the guest, read from front to back.

use std::fmt;
use std::os::fd::BorrowedFd;

use super::sys::Segments;
use crate::Errno;

/// Bytes that came from the guest, consumed from front to back.
pub struct Readable {
    segments: Segments,
    at: usize,
}

impl Readable {
    pub(super) fn over(segments: Segments) -> Self {
        Self { segments, at: 0 }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.segments.len() - self.at
    }

    /// Takes exactly `N` bytes, or none when fewer are left.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        if self.remaining() < N {
            return None;
        }
        self.at += self.segments.copy_out(self.at, &mut bytes);
        Some(bytes)
    }

    /// Copies out what is left, up to `limit` bytes.
    pub fn take_vec(&mut self, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.remaining().min(limit)];
        self.at += self.segments.copy_out(self.at, &mut bytes);
        bytes
    }

    /// Writes what is left into a file at `offset` (or at its end), consuming what was written.
    /// Short only when the host's write was, for lack of space for instance.
    pub fn write_to(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        append: bool,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while self.remaining() > 0 {
            let offset = offset.checked_add(done as u64).ok_or(Errno::EFBIG)?;
            let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
            let window = (self.at, self.remaining());
            match self.segments.write_file(file, offset, window, append) {
                Ok(0) => break,
                Ok(count) => {
                    self.at += count;
                    done += count;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

impl From<Vec<u8>> for Readable {
    fn from(bytes: Vec<u8>) -> Self {
        Self { segments: Segments::heap(bytes), at: 0 }
    }
}

impl fmt::Debug for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readable({} bytes left)", self.remaining())
    }
}
