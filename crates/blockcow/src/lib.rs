//! Disks for virtual machines: a base image and, over it, the blocks that were written.
//!
//! Owns how disk images are read and written, and where written blocks are kept. A [`Disk`] knows
//! no virtual machine and no protocol: a device model asks it for bytes and says where they go.
//!
//! ```text
//!  Disk::read(offset, target)
//!    ├─ overlay::Overlay ── on its way to the store, or in it ──────► target.put
//!    └─ base::Base ── place ──► zeros ──────────────────────────────► target.put_zeros
//!                      │   ├──► file data ── in page cache? ────────► target.put_cached
//!                      │   └──► compressed ── in block cache? ──────► target.put
//!                      └ not at hand: fetched by a blocking thread, then target.put
//! ```
//!
//! There is no read-ahead of the base: guests do their own, of 128 KiB, and the kernel reads ahead
//! in the image file; what is read together is decompressed together, a cluster at a time.
//!
//! Refuses every image that needs another file (backing files, external data files), that this
//! crate could only read wrongly (encryption, unknown features, unfinished writes), and that is
//! incomplete. Images are found out when they are opened: see [`OpenError`].
//!
//! To read first: qcow2, "docs/interop/qcow2.rst" of QEMU.

mod base;
mod cache;
#[cfg(feature = "test-support")]
pub mod conformance;
mod contents;
mod disk;
mod error;
mod flatten;
pub mod limits;
mod overlay;
pub mod qcow2;
mod source;
pub mod store;
mod target;

pub use contents::{Piece, contents};
pub use disk::{Disk, ImageFormat, Traffic};
pub use error::{OpenError, OverlayError, ReadError, WriteError};
pub use flatten::{FlattenError, FlattenOptions, FlattenProgress, flatten};
pub use overlay::{DiskEvent, EventSink, OverlayOptions, StoreCall};
pub use source::{BufferSource, WriteSource};
pub use store::{
    AnswerError, BlockChunk, BlockStore, FileStore, FileStoreError, MemoryStore, StoreContext,
    StoreError,
};
pub use target::{BufferTarget, ReadTarget};
