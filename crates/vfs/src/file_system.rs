//! What a backend is asked, and what it promises.

use std::future::Future;
use std::time::Duration;

use crate::fuse::DirectorySink;
use crate::{
    AllocateMode, Attr, Body, Caller, Changes, Entry, Errno, Handle, Inode, Lock, Name, OpenFlags,
    Opened, Place, Readable, RenameMode, Seek, StatFs, Target, WriteFlags,
};

/// What a backend can do: decides what is negotiated with the guest. Does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is negotiated by itself")]
pub struct Profile {
    /// Every change is refused with `EROFS` before it reaches the backend.
    pub read_only: bool,
    /// The guest may collect writes and decide sizes and times itself: only where nobody else
    /// writes.
    pub write_back: bool,
    /// Whether the guest's cached data is still right is settled when a file is opened
    /// ([`Opened::keep_cache`]), not by asking for its attributes before each read.
    pub data_by_open: bool,
    /// fcntl locks are kept here; otherwise each guest keeps its own.
    pub posix_locks: bool,
    /// flock locks are kept here.
    pub flock: bool,
    /// Entries can be given cheaply together with their names.
    pub entries_with_readdir: bool,
    /// Symlink targets may be cached as file data is.
    pub cache_symlinks: bool,
    /// Nanoseconds between two distinguishable times.
    pub time_granularity: u32,
    /// How long a request may take before the guest gets `EIO`. Waiting for a lock is not bound
    /// by it.
    pub deadline: Duration,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            read_only: false,
            write_back: false,
            data_by_open: false,
            posix_locks: false,
            flock: false,
            entries_with_readdir: true,
            cache_symlinks: false,
            time_granularity: 1,
            deadline: Duration::from_secs(30),
        }
    }
}

/// Answers to an operation that a backend does not have.
fn refuse<T: Send>() -> impl Future<Output = Result<T, Errno>> + Send {
    std::future::ready(Err(Errno::ENOSYS))
}

/// A tree of files, by inode.
///
/// - **Hostile callers.** Names and numbers are well formed, nothing else is promised: an inode
///   may never have been given out (`ESTALE`), a handle belong to another inode (`EBADF`), a file
///   be asked for entries (`ENOTDIR`).
/// - **Lookup counts.** Every [`Entry`] with an inode counts one lookup, counted when it is
///   returned and not before: a future that is dropped half-way has counted nothing.
///   [`forget`](Self::forget) takes counts back. An inode with a count or an open handle stays
///   valid, also without a name.
/// - **Time.** A future may be dropped at any await. What takes long without awaiting (a file that
///   must come from disk, fsync) runs on a blocking thread.
/// - **Concurrency.** Requests overlap; none may wait for another one's callback.
///
/// `ENOSYS`, the default of everything optional, makes guests stop asking.
#[allow(unused_variables, reason = "defaults refuse whatever they are given")]
pub trait FileSystem: Send + Sync + 'static {
    /// What this backend can do.
    fn profile(&self) -> Profile;

    /// The guest is gone, or begins anew: every inode but the root and every handle is void.
    fn reset(&self);

    /// Takes back `count` lookups; more than were given out take back all.
    fn forget(&self, inode: Inode, count: u64);

    /// The entry `name` in the directory `parent`; `ENOENT` or an absent entry without it.
    fn lookup(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send;

    /// Attributes, and how long they may be believed.
    fn get_attr(
        &self,
        inode: Inode,
        handle: Option<Handle>,
    ) -> impl Future<Output = Result<(Attr, Duration), Errno>> + Send;

    /// Makes all changes or fails; the attributes afterwards.
    fn set_attr(
        &self,
        inode: Inode,
        handle: Option<Handle>,
        changes: Changes,
    ) -> impl Future<Output = Result<(Attr, Duration), Errno>> + Send;

    /// The target of a symlink, up to 4,095 bytes.
    fn read_link(&self, inode: Inode) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send;

    /// Makes a symlink.
    fn symlink(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        target: &Target,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send {
        refuse()
    }

    /// Makes a file, FIFO or socket; `mode` with its type. Devices are never made: `EPERM`.
    fn make_node(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        mode: u32,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send {
        refuse()
    }

    /// Makes a directory.
    fn make_dir(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        permissions: u32,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send {
        refuse()
    }

    /// Removes a name that is not a directory's.
    fn unlink(&self, parent: Inode, name: &Name) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// Removes an empty directory.
    fn remove_dir(
        &self,
        parent: Inode,
        name: &Name,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// Moves a name. Inodes keep their identity.
    fn rename(
        &self,
        from: (Inode, &Name),
        to: (Inode, &Name),
        mode: RenameMode,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// Gives `inode` one more name.
    fn link(
        &self,
        inode: Inode,
        parent: Inode,
        name: &Name,
    ) -> impl Future<Output = Result<Entry, Errno>> + Send {
        refuse()
    }

    /// Opens a file.
    fn open(
        &self,
        inode: Inode,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<Opened, Errno>> + Send;

    /// Makes a file, unless there is one and `flags` allow that, and opens it.
    fn create(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        permissions: u32,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<(Entry, Opened), Errno>> + Send {
        refuse()
    }

    /// Makes a file without a name in the filesystem of `parent`, and opens it (`O_TMPFILE`).
    fn temporary(
        &self,
        caller: Caller,
        parent: Inode,
        permissions: u32,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<(Entry, Opened), Errno>> + Send {
        std::future::ready(Err(Errno::EOPNOTSUPP))
    }

    /// Fills `body` from `offset`; short only at the file's end.
    fn read(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        body: &mut Body<'_>,
    ) -> impl Future<Output = Result<(), Errno>> + Send;

    /// Writes what `data` holds; how much of it was.
    fn write(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        data: &mut Readable,
        flags: WriteFlags,
    ) -> impl Future<Output = Result<usize, Errno>> + Send {
        refuse()
    }

    /// A descriptor was closed by `owner`: its fcntl locks on the file end.
    fn flush(
        &self,
        inode: Inode,
        handle: Handle,
        owner: u64,
    ) -> impl Future<Output = Result<(), Errno>> + Send;

    /// The last descriptor is gone.
    fn release(&self, inode: Inode, handle: Handle) -> Result<(), Errno>;

    /// Returns when everything written is durable.
    fn fsync(
        &self,
        inode: Inode,
        handle: Handle,
        data_only: bool,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// Opens a directory.
    fn open_dir(&self, inode: Inode) -> impl Future<Output = Result<Opened, Errno>> + Send;

    /// Entries from `offset` on (0: from the beginning, anything else: as given with an entry)
    /// until the sink is full or there are no more. Each entry that was there from the first to
    /// the last request of one pass is given exactly once.
    fn read_dir(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        sink: &mut DirectorySink,
    ) -> impl Future<Output = Result<(), Errno>> + Send;

    /// The last descriptor is gone.
    fn release_dir(&self, inode: Inode, handle: Handle) -> Result<(), Errno>;

    /// Returns when the directory's entries are durable.
    fn fsync_dir(
        &self,
        inode: Inode,
        handle: Handle,
        data_only: bool,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// Sizes of the whole filesystem.
    fn stat_fs(&self, inode: Inode) -> impl Future<Output = Result<StatFs, Errno>> + Send;

    /// `flags`: 0, or 1 for "must be new", 2 for "must exist".
    fn set_xattr(
        &self,
        inode: Inode,
        name: &Name,
        value: &[u8],
        flags: u32,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// The value, up to 64 KiB; `ENODATA` without it.
    fn get_xattr(
        &self,
        inode: Inode,
        name: &Name,
    ) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send {
        refuse()
    }

    /// The names, each ended by a NUL, up to 64 KiB together.
    fn list_xattr(&self, inode: Inode) -> impl Future<Output = Result<Vec<u8>, Errno>> + Send {
        refuse()
    }

    /// `ENODATA` without it.
    fn remove_xattr(
        &self,
        inode: Inode,
        name: &Name,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// The first lock in the way of this one, or an unlocked range.
    fn get_lock(
        &self,
        inode: Inode,
        handle: Handle,
        lock: Lock,
    ) -> impl Future<Output = Result<Lock, Errno>> + Send {
        refuse()
    }

    /// Takes or gives back a lock. With `wait`, as long as it takes; otherwise `EAGAIN`.
    fn set_lock(
        &self,
        inode: Inode,
        handle: Handle,
        lock: Lock,
        wait: bool,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }

    /// Reserves, empties or punches a range.
    fn allocate(
        &self,
        inode: Inode,
        handle: Handle,
        range: (u64, u64),
        mode: AllocateMode,
    ) -> impl Future<Output = Result<(), Errno>> + Send {
        std::future::ready(Err(Errno::EOPNOTSUPP))
    }

    /// Where the next data or hole is; `ENXIO` behind the end.
    fn seek(
        &self,
        inode: Inode,
        handle: Handle,
        seek: Seek,
    ) -> impl Future<Output = Result<u64, Errno>> + Send {
        refuse()
    }

    /// Copies up to `length` bytes between files; how many.
    fn copy_range(
        &self,
        from: Place,
        to: Place,
        length: u64,
    ) -> impl Future<Output = Result<usize, Errno>> + Send {
        refuse()
    }

    /// Returns when all of the filesystem is durable.
    fn sync_fs(&self) -> impl Future<Output = Result<(), Errno>> + Send {
        refuse()
    }
}
