//! A list of raw pieces of memory, and the only code that touches them.
#![allow(unsafe_code, reason = "guest memory is reached through raw pointers")]

use std::any::Any;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use super::{Readable, Writable};

/// A piece of memory, as a virtqueue descriptor gives it.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Where it begins in this process.
    pub address: *mut u8,
    /// Its length in bytes.
    pub length: usize,
}

/// Pieces that stay mapped while this exists.
pub(super) struct Segments {
    parts: Vec<Segment>,
    total: usize,
    /// Keeps the memory mapped; never looked into.
    _owner: Owner,
}

/// What keeps the memory alive: nobody reads it.
enum Owner {
    Heap { _buffer: HeapBuffer },
    Shared { _memory: Arc<dyn Any + Send + Sync> },
}

/// A heap allocation reached by its raw pointer only, so that no reference claims it.
struct HeapBuffer {
    address: *mut u8,
    length: usize,
    capacity: usize,
}

impl Drop for HeapBuffer {
    fn drop(&mut self) {
        // SAFETY: the three numbers are those of the `Vec` that `Segments::heap` took apart.
        drop(unsafe { Vec::from_raw_parts(self.address, self.length, self.capacity) });
    }
}

// SAFETY: the memory is plain bytes that stay mapped wherever the value is moved to; access goes
// through `&self` and `&mut self` methods of the two wrappers, which do not share it.
unsafe impl Send for Segments {}
// SAFETY: shared access only copies bytes out; two threads doing so race at most with the guest,
// and bytes copied by raw pointer carry no meaning until checked.
unsafe impl Sync for Segments {}

impl Segments {
    /// # Safety
    /// Every segment is valid for reads and writes while `owner` lives, and no Rust reference to
    /// it exists meanwhile. Its contents may change at any time.
    pub(super) unsafe fn raw(parts: Vec<Segment>, owner: Arc<dyn Any + Send + Sync>) -> Self {
        let total = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.length));
        Self { parts, total, _owner: Owner::Shared { _memory: owner } }
    }

    pub(super) fn heap(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        let (address, length, capacity) = (bytes.as_mut_ptr(), bytes.len(), bytes.capacity());
        let buffer = HeapBuffer { address, length, capacity };
        Self {
            parts: vec![Segment { address, length }],
            total: length,
            _owner: Owner::Heap { _buffer: buffer },
        }
    }

    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// The pieces of the window `at..at + length`, which is cut to what exists.
    fn window(&self, at: usize, length: usize) -> impl Iterator<Item = Segment> + '_ {
        let mut skip = at;
        let mut left = length;
        self.parts.iter().filter_map(move |part| {
            let skipped = skip.min(part.length);
            skip -= skipped;
            let take = left.min(part.length - skipped);
            left -= take;
            (take > 0)
                .then(|| Segment { address: part.address.wrapping_add(skipped), length: take })
        })
    }

    /// Copies from `at` into `out`; the number of bytes that were there.
    pub(super) fn copy_out(&self, at: usize, out: &mut [u8]) -> usize {
        let mut done = 0;
        for part in self.window(at, out.len()) {
            let target = out[done..done + part.length].as_mut_ptr();
            // SAFETY: the segment is readable (contract of `raw`), the target is a live slice of
            // that length, and no Rust object overlaps the segment.
            unsafe { std::ptr::copy_nonoverlapping(part.address, target, part.length) };
            done += part.length;
        }
        done
    }

    /// Copies `bytes` to `at`; the number of bytes there was room for.
    pub(super) fn copy_in(&mut self, at: usize, bytes: &[u8]) -> usize {
        let mut done = 0;
        for part in self.window(at, bytes.len()) {
            let source = bytes[done..done + part.length].as_ptr();
            // SAFETY: the segment is writable (contract of `raw`), the source is a live slice of
            // that length, and no Rust object overlaps the segment.
            unsafe { std::ptr::copy_nonoverlapping(source, part.address, part.length) };
            done += part.length;
        }
        done
    }

    fn vectors(&self, at: usize, length: usize) -> Vec<libc::iovec> {
        self.window(at, length)
            .take(IOV_MAX)
            .map(|part| libc::iovec { iov_base: part.address.cast(), iov_len: part.length })
            .collect()
    }

    /// One preadv of a file into the window; as short as the system call makes it.
    pub(super) fn read_file(
        &mut self,
        file: BorrowedFd<'_>,
        offset: i64,
        (at, length): (usize, usize),
        mode: ReadMode,
    ) -> io::Result<usize> {
        let vectors = self.vectors(at, length);
        let count = vectors.len().try_into().unwrap_or(libc::c_int::MAX);
        let flags = match mode {
            ReadMode::Plain => 0,
            ReadMode::NoWait => libc::RWF_NOWAIT,
        };
        // SAFETY: every vector is a writable segment of this value, which outlives the call.
        let done =
            unsafe { libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), count, offset, flags) };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// One pwritev of the window to a file.
    pub(super) fn write_file(
        &self,
        file: BorrowedFd<'_>,
        offset: i64,
        (at, length): (usize, usize),
        append: bool,
    ) -> io::Result<usize> {
        let vectors = self.vectors(at, length);
        let count = vectors.len().try_into().unwrap_or(libc::c_int::MAX);
        let flags = if append { libc::RWF_APPEND } else { 0 };
        // SAFETY: every vector is a readable segment of this value, which outlives the call.
        let done =
            unsafe { libc::pwritev2(file.as_raw_fd(), vectors.as_ptr(), count, offset, flags) };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }
}

impl Readable {
    /// Over memory that the guest may change meanwhile.
    ///
    /// # Safety
    /// Every segment is valid for reads and writes while `owner` lives, and no Rust reference to
    /// it exists meanwhile.
    pub unsafe fn from_raw(segments: Vec<Segment>, owner: Arc<dyn Any + Send + Sync>) -> Self {
        // SAFETY: the caller's promise is the one asked for.
        Self::over(unsafe { Segments::raw(segments, owner) })
    }
}

impl Writable {
    /// Over memory that the guest may change meanwhile.
    ///
    /// # Safety
    /// Every segment is valid for reads and writes while `owner` lives, and no Rust reference to
    /// it exists meanwhile.
    pub unsafe fn from_raw(segments: Vec<Segment>, owner: Arc<dyn Any + Send + Sync>) -> Self {
        // SAFETY: the caller's promise is the one asked for.
        Self::over(unsafe { Segments::raw(segments, owner) })
    }
}

/// Whether a read may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    Plain,
    /// Only what is in memory already; `EAGAIN` when nothing is.
    NoWait,
}

/// `UIO_MAXIOV`.
const IOV_MAX: usize = 1024;
