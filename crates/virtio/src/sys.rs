//! Reading from a file straight into a guest's memory, and waiting for a file.
#![allow(
    unsafe_code,
    reason = "vm-memory has no read that takes an offset and flags; tokio's registration of a \
              descriptor rests on a promise"
)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use vm_memory::VolatileSlice;

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

/// Lets the current runtime wait until the file can be read.
pub(crate) fn await_readable(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` names one descriptor and keeps it open for as long as it lives, and it is
    // never taken out of, or exchanged in, the `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
