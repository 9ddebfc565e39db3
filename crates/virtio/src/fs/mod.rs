//! virtio-fs (virtio 1.2, 5.11) over a FUSE server of [`vfs`].
//!
//! ```text
//!  chain ─► request::parse ─► Readable, Writable over guest memory ─► vfs::fuse::Serve ─► used
//!              │ malformed: the ring is broken
//! ```
//!
//! Queue 0 is the one of high priority, for FORGET; the others are alike, and Linux 6.1 uses the
//! first of them. What is in a request is the server's affair, the room for its reply too: a chain
//! without any is a request that has no reply. There is no DAX window and no notification queue.

mod device;
pub mod request;

pub use device::{local_filesystem, serve_filesystem};
