//! Files for guests: the FUSE server, and what stands behind it.
//!
//! ```text
//! transport (virtqueue, /dev/fuse) ──► fuse::Server ──► FileSystem ─┬─ HostDir: a host directory
//!                                                                   └─ CallbackFs ──► Callbacks
//! ```
//!
//! - [`fuse`]: from request bytes to a [`FileSystem`] and back.
//! - [`FileSystem`]: what a backend promises.
//! - [`host_dir`]: a directory of the host.
//! - [`callbacks`]: a narrow interface by path, each group of methods optional.
//!
//! A leaf: knows neither virtio nor gRPC nor any other crate of ours.

mod attributes;
mod buffer;
pub mod callbacks;
mod errno;
mod event;
mod file_system;
mod flags;
pub mod fuse;
mod handle_table;
#[cfg(target_os = "linux")]
pub mod host_dir;
mod name;

pub use attributes::{
    Attr, CacheTimes, Changes, Entry, Handle, Inode, Kind, SetTime, StatFs, Time,
};
pub use buffer::{Body, Readable, Segment, Writable};
pub use errno::Errno;
pub use event::{Event, Observer};
pub use file_system::{FileSystem, Profile};
pub use flags::{
    AllocateMode, Caller, Lock, LockFamily, LockKind, OpenFlags, Opened, Place, RenameMode, Seek,
    WriteFlags,
};
pub use name::{NAME_MAX, Name, TARGET_MAX, Target};
