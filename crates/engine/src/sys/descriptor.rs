//! Descriptors of types that know nothing of those of the standard library.

#![allow(unsafe_code, reason = "borrows a descriptor by its number")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Another descriptor of the same file, closed on exec.
pub(crate) fn duplicate(owner: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: the owner is borrowed, and so its descriptor open, until this returns.
    let borrowed = unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) };
    borrowed.try_clone_to_owned().map(File::from)
}
