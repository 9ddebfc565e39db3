//! virtio device models, served over vhost-user or to a monitor in this process.
//!
//! Owns what a guest sees of its disks, virtio-blk ([`serve_block`], [`local_block`]), and of its
//! filesystems, virtio-fs ([`serve_filesystem`], [`local_filesystem`]). Over vhost-user the virtual
//! machine monitor is the front end at the other end of a socket; it shares the guest's memory, and
//! from then on requests do not pass through it. A monitor in this process ([`LocalDevice`]) needs
//! more, which QEMU has itself: a network device ([`net`]), ports ([`console`]), random numbers
//! ([`entropy`]), and a way for the guest to give memory back ([`balloon`]).
//!
//! Both are hostile: the guest writes the rings, and a guest that has taken over its monitor
//! writes the socket. Nothing they send panics, hangs, or reaches memory that is not the guest's.
//!
//! To read first: virtio 1.2 (2.7 split rings, 5.2 block device, 5.11 file system device), and the vhost-user protocol in
//! QEMU's documentation.

pub mod balloon;
pub mod blk;
pub mod chain;
pub mod console;
pub mod entropy;
mod error;
pub mod fs;
pub mod limits;
mod local;
pub mod memory;
pub mod net;
mod rings;
mod source;
mod sys;
mod vhost_user;

pub use blk::{BlockOptions, local_block, serve_block};
pub use error::{DeviceError, MemoryError};
pub use fs::{local_filesystem, serve_filesystem};
pub use local::{Interrupt, Interrupts, LocalDevice, RingSetup};
pub use vhost_user::DeviceServer;
