//! Filesystems made of callbacks: a narrow interface by path, turned into one by inode.
//!
//! Owns: inode numbers, lookup counts and what stays put of an answer that left things out; what a
//! path-based interface cannot do by itself (open files without a name, hard links, directory
//! passes that are complete); and the check of every answer. An answer that cannot be is `EIO`
//! for the guest and an event for the owner, never believed.
//!
//! ```text
//! FileSystem request by inode ─► tree: path ─► callback ─► checked answer ─► tree: Entry
//! ```

mod adapter;
mod answers;
mod change;
mod file_system;
mod listing;
mod node;
mod orphan;
mod path;
mod tree;
mod types;

use std::future::Future;

use bytes::Bytes;

pub use adapter::{CallbackFs, CallbackHeld, CallbackOptions};
pub use path::FilePath;
pub use types::{DirectoryEntry, Features, FileStat};

use crate::{Errno, Kind, RenameMode, SetTime, StatFs};

/// Refuses what a filesystem does not have. Never asked for when [`Features`] say so.
fn absent<T: Send>() -> impl Future<Output = Result<T, Errno>> + Send {
    std::future::ready(Err(Errno::ENOSYS))
}

/// A filesystem by path. Paths are absolute, `/` is the mount's root; no component is `.`, `..`
/// or empty. Methods fail with what the guest is to see.
///
/// A future may be dropped when its time is over; its answer is then of no interest.
#[allow(unused_variables, reason = "defaults refuse whatever they are given")]
pub trait Callbacks: Send + Sync + 'static {
    /// Which of the optional methods there are. Does not change.
    fn features(&self) -> Features;

    /// What is at `path`, not following a symlink.
    fn stat(&self, path: &FilePath) -> impl Future<Output = Result<FileStat, Errno>> + Send;

    /// All entries of a directory, without `.` and `..`.
    fn list(
        &self,
        path: &FilePath,
    ) -> impl Future<Output = Result<Vec<DirectoryEntry>, Errno>> + Send;

    /// At most `length` bytes from `offset`; none at the end.
    fn read(
        &self,
        path: &FilePath,
        offset: u64,
        length: usize,
    ) -> impl Future<Output = Result<Bytes, Errno>> + Send;

    /// Makes an empty file; or, with [`Features::NODES`], a FIFO or socket.
    fn create_file(
        &self,
        path: &FilePath,
        kind: Kind,
        permissions: u32,
    ) -> impl Future<Output = Result<FileStat, Errno>> + Send {
        absent()
    }

    /// Writes, growing the file; how many bytes were written.
    fn write(
        &self,
        path: &FilePath,
        offset: u64,
        contents: Bytes,
    ) -> impl Future<Output = Result<u64, Errno>> + Send {
        absent()
    }

    /// Cuts or grows.
    fn truncate(
        &self,
        path: &FilePath,
        size: u64,
    ) -> impl Future<Output = Result<FileStat, Errno>> + Send {
        absent()
    }

    /// Makes a directory.
    fn mkdir(
        &self,
        path: &FilePath,
        permissions: u32,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Removes a name that is not a directory's.
    fn unlink(&self, path: &FilePath) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Removes an empty directory.
    fn rmdir(&self, path: &FilePath) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Moves; `mode` is [`RenameMode::Replace`] unless there is [`Features::RENAME_FLAGS`].
    fn rename(
        &self,
        from: &FilePath,
        to: &FilePath,
        mode: RenameMode,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Gives `existing` one more name.
    fn link(
        &self,
        existing: &FilePath,
        path: &FilePath,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Makes a symlink at `path`.
    fn symlink(
        &self,
        target: &[u8],
        path: &FilePath,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// The target of a symlink.
    fn readlink(&self, path: &FilePath) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send {
        absent()
    }

    /// Sets permission bits.
    fn chmod(
        &self,
        path: &FilePath,
        permissions: u32,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Sets both owners.
    fn chown(
        &self,
        path: &FilePath,
        uid: u32,
        gid: u32,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Sets the times given.
    fn utimes(
        &self,
        path: &FilePath,
        accessed: Option<SetTime>,
        modified: Option<SetTime>,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// `flags`: 0, 1 for "must be new", 2 for "must exist".
    fn setxattr(
        &self,
        path: &FilePath,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// `ENODATA` without it.
    fn getxattr(
        &self,
        path: &FilePath,
        name: &[u8],
    ) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send {
        absent()
    }

    /// All names.
    fn listxattr(
        &self,
        path: &FilePath,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, Errno>> + Send {
        absent()
    }

    /// `ENODATA` without it.
    fn removexattr(
        &self,
        path: &FilePath,
        name: &[u8],
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Returns when what was written to `path` is durable.
    fn fsync(&self, path: &FilePath) -> impl Future<Output = Result<(), Errno>> + Send {
        absent()
    }

    /// Sizes of the whole filesystem.
    fn statfs(&self) -> impl Future<Output = Result<StatFs, Errno>> + Send {
        absent()
    }
}
