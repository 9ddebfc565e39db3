//! virtio device models, served over vhost-user.
//!
//! Owns what a guest sees of its disks, virtio-blk ([`serve_block`]), and of its filesystems,
//! virtio-fs ([`serve_filesystem`]). The virtual machine monitor is the front end at the other end
//! of a socket; it shares the guest's memory, and from then on requests do not pass through it.
//!
//! Both are hostile: the guest writes the rings, and a guest that has taken over its monitor
//! writes the socket. Nothing they send panics, hangs, or reaches memory that is not the guest's.
//!
//! To read first: virtio 1.2 (2.7 split rings, 5.2 block device, 5.11 file system device), and the vhost-user protocol in
//! QEMU's documentation.

pub mod blk;
pub mod chain;
mod error;
pub mod fs;
pub mod limits;
pub mod memory;
mod sys;
mod vhost_user;

pub use blk::{BlockOptions, serve_block};
pub use error::{DeviceError, MemoryError};
pub use fs::serve_filesystem;
pub use vhost_user::DeviceServer;
