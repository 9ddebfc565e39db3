//! Closing what a child has inherited: close_range(2), Linux 5.9.
#![allow(unsafe_code, reason = "close_range(2) closes descriptors that others may own")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// In a child before exec: closes every descriptor but 0, 1, 2 and `kept`. A copy of another
/// process's pipe would otherwise stay open as long as this child takes to get to exec. No other
/// descriptor may be used, or dropped, after it.
pub(crate) fn close_others(kept: BorrowedFd<'_>) -> nix::Result<()> {
    let kept = kept.as_raw_fd().unsigned_abs();
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.saturating_add(1), u32::MAX)] {
        if first <= last {
            // SAFETY: this runs in a child that ends in exec or _exit and, as the contract says,
            // uses none of the closed descriptors.
            Errno::result(unsafe { libc::close_range(first, last, 0) })?;
        }
    }
    Ok(())
}
