//! Descriptors that the runtime watches. tokio's constructor is unsafe because it cannot know that
//! a descriptor stays open; one that is owned does.
#![allow(unsafe_code, reason = "AsyncFd asks for a promise that OwnedFd keeps")]

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Hands `file`, which must be non-blocking to be of use, to the runtime of the caller.
pub(crate) fn watch(file: OwnedFd, interest: Interest) -> nix::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always returns the same descriptor and is open until it is dropped, which
    // AsyncFd does after it has stopped watching.
    unsafe { AsyncFd::register_with_interest(file, interest) }.map_err(|error| {
        let error: io::Error = error.into();
        Errno::from_raw(error.raw_os_error().unwrap_or(0))
    })
}
