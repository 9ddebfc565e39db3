//! Disks for virtual machines: a base image and, over it, the blocks that were written.
//!
//! Owns how disk images are read. A [`Disk`] knows no virtual machine and no protocol: a device
//! model asks it for bytes and says where they go.
//!
//! ```text
//!  Disk::read(offset, target)
//!    └─ base::Base ── place ──► zeros ──────────────────────────► target.put_zeros
//!                      │   ├──► file data ── in page cache? ────► target.put_cached
//!                      │   └──► compressed ── in block cache? ──► target.put
//!                      └ not at hand: fetched by a blocking thread, then target.put
//! ```
//!
//! Refuses every image that needs another file (backing files, external data files), that this
//! crate could only read wrongly (encryption, unknown features, unfinished writes), and that is
//! incomplete. Images are found out when they are opened: see [`OpenError`].
//!
//! To read first: qcow2, "docs/interop/qcow2.rst" of QEMU.

mod base;
mod cache;
mod disk;
mod error;
pub mod limits;
mod target;

pub use disk::{Disk, ImageFormat};
pub use error::{OpenError, ReadError};
pub use target::{BufferTarget, ReadTarget};
