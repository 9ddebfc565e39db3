//! virtio-blk (virtio 1.2, 5.2) over a [`blockcow::Disk`].
//!
//! ```text
//!  chain ─► request::parse ─► Command ─► device::Block ─► Disk ─► guest memory, status byte
//!              │ malformed: the ring is broken     │ refused: status 1 or 2
//! ```
//!
//! A disk without a store is read-only: the feature says so, and a driver that writes anyway gets
//! an I/O error. A disk with one offers flush, discard and write-zeroes; to a driver that does not
//! take the flush feature each write is durable when it is answered (virtio 1.2, 5.2.6.2). The
//! cache mode cannot be configured.
//!
//! # When a store is full
//!
//! The protocol has one status for everything that fails, so the guest does not learn why: Linux
//! turns it into `EIO`, and a file system that meets it remounts read-only or aborts its journal.
//! (`BLK_STS_NOSPC` exists in Linux, but no virtio-blk driver makes it of a read or write status.)
//! A program in the guest sees `ENOSPC` only from a file system that is itself full; so a disk is
//! best made no larger than its store can become.

mod config;
mod device;
pub mod request;

pub use device::{BlockOptions, local_block, serve_block};
