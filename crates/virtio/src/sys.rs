//! Reading from a file straight into a guest's memory, handing pieces of it on, and waiting for a
//! file.
#![allow(
    unsafe_code,
    reason = "vm-memory has no read that takes an offset and flags; vfs reaches guest memory by raw \
              pointers; tokio's registration of a descriptor rests on a promise"
)]

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use vfs::{Readable, Writable};
use vm_memory::{GuestMemoryBackend, VolatileSlice};

use crate::memory::{Memory, Segment};

/// Fills the slices, one after the other, with what of the file is in the page cache. Never waits
/// for a device; 0 when nothing is there, or the file system cannot tell.
pub(crate) fn read_cached(
    file: &File,
    offset: u64,
    slices: &[VolatileSlice<'_>],
) -> io::Result<usize> {
    let offset = libc::off64_t::try_from(offset).map_err(io::Error::other)?;
    let count = libc::c_int::try_from(slices.len()).map_err(io::Error::other)?;
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let vectors: Vec<_> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    // SAFETY: each vector is the memory of a guard that is alive for the whole call, and guest
    // memory may be written by anyone at any time. The descriptor is open for the whole call.
    let result = unsafe {
        libc::preadv2(file.as_raw_fd(), vectors.as_ptr(), count, offset, libc::RWF_NOWAIT)
    };
    match usize::try_from(result) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(length),
        Err(_) => match io::Error::last_os_error() {
            error if is_not_now(&error) => Ok(0),
            error => Err(error),
        },
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::EOPNOTSUPP | libc::ENOSYS)
    )
}

/// Gives the whole pages of a slice back to the host; they read as zeros from then on. The memory
/// must be private and anonymous for that.
pub(crate) fn discard(slice: &VolatileSlice<'_>) -> io::Result<()> {
    const PAGE: usize = 4096;
    let guard = slice.ptr_guard_mut();
    let begin = guard.as_ptr().align_offset(PAGE);
    let length = guard.len().saturating_sub(begin) / PAGE * PAGE;
    if length == 0 {
        return Ok(());
    }
    let first = guard.as_ptr().wrapping_add(begin);
    // SAFETY: the pages lie inside of the slice, whose memory is the guest's and mapped as long as
    // the guard is there; guest memory may change at any time, so also to zeros.
    let result = unsafe { libc::madvise(first.cast(), length, libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets the current runtime wait until the file can be read.
pub(crate) fn await_readable(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` names one descriptor and keeps it open for as long as it lives, and it is
    // never taken out of, or exchanged in, the `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

/// Pieces of a guest's memory for [`vfs`] to read from and to write to. `None` when one of them is
/// not there.
pub(crate) fn buffers(
    memory: &Memory,
    readable: &[Segment],
    writable: &[Segment],
) -> Option<(Readable, Writable)> {
    let readable = mapped(memory, readable)?;
    let writable = mapped(memory, writable)?;
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(memory.clone());
    // SAFETY: `mapped` names bytes of mappings that `owner` keeps and that allow reading and
    // writing; the file behind them is sealed against shrinking, so touching them is no fault. No
    // Rust reference is ever made to guest memory: vm-memory too uses raw pointers only.
    let bytes = unsafe { Readable::from_raw(readable, Arc::clone(&owner)) };
    // SAFETY: as above. Both may name the same bytes, which neither makes a reference to.
    let reply = unsafe { Writable::from_raw(writable, owner) };
    Some((bytes, reply))
}

/// Where segments lie in this process; one that crosses from a region into the next is two pieces.
fn mapped(memory: &Memory, segments: &[Segment]) -> Option<Vec<vfs::Segment>> {
    let mut pieces = Vec::with_capacity(segments.len());
    for segment in segments {
        for slice in memory.get_slices(segment.address, segment.length as usize) {
            let guard = slice.ok()?.ptr_guard_mut();
            pieces.push(vfs::Segment { address: guard.as_ptr(), length: guard.len() });
        }
    }
    Some(pieces)
}
