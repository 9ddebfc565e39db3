//! virtio-blk (virtio 1.2, 5.2) over a [`blockcow::Disk`].
//!
//! ```text
//!  chain ─► request::parse ─► Command ─► device::Block ─► Disk::read ─► guest memory, status byte
//!              │ malformed: the ring is broken     │ refused: status 1 or 2
//! ```
//!
//! All disks are read-only for now: the feature says so, and a driver that writes anyway gets an
//! I/O error.

mod config;
mod device;
pub mod request;

pub use device::{BlockOptions, serve_block};
