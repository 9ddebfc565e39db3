//! The filesystems that the host serves over virtio-fs, beside the places where the workload sees
//! them.
//!
//! Each is mounted twice: where it belongs, and, writable, in no place at all, reached by a
//! descriptor of PID 1 alone. The second mount
//! - keeps the filesystem in the kernel until the reset, so that unmounting waits for nobody;
//! - is where it is synced at the shutdown, whatever the workload did to the first;
//! - lets [`announce`] work on a mount that is read-only for the workload.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps,
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// A filesystem, mounted in no place.
#[derive(Debug)]
pub(crate) struct Filesystem {
    /// Tag of its device.
    pub(crate) tag: String,
    /// Where the workload has it.
    pub(crate) target: String,
    root: OwnedFd,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Filesystems(Mutex<Vec<Arc<Filesystem>>>);

impl Filesystems {
    /// One more.
    pub(crate) fn add(&self, filesystem: Filesystem) {
        self.lock().push(Arc::new(filesystem));
    }

    /// Those there are.
    pub(crate) fn all(&self) -> Vec<Arc<Filesystem>> {
        self.lock().clone()
    }

    /// The one of this tag.
    pub(crate) fn find(&self, tag: &str) -> Option<Arc<Filesystem>> {
        self.lock().iter().find(|known| known.tag == tag).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Filesystem>>> {
        // Each change is one insertion: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filesystem {
    /// Mounts it. The first mount decides whether the kernel holds it to be writable: so this comes
    /// before the one for the workload.
    pub(crate) fn mount(tag: &str, target: &str) -> rustix::io::Result<Self> {
        let context = rustix::mount::fsopen("virtiofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", tag)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let root = rustix::mount::fsmount(context.as_fd(), flags, attributes)?;
        Ok(Self { tag: tag.to_owned(), target: target.to_owned(), root })
    }

    /// Waits for the host: for a helper process.
    pub(crate) fn sync(&self) -> rustix::io::Result<()> {
        // The descriptor of a mount is O_PATH.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&self.root, ".", flags, Mode::empty())?;
        rustix::fs::syncfs(root)
    }

    /// Makes inotify tell of these paths, whatever became of them. Waits for the host: for a helper
    /// process.
    pub(crate) fn announce(&self, paths: &[Vec<u8>], mark: Timespec) {
        for path in paths {
            // Gone, or never there: nobody can watch it.
            let _ = self.announce_one(path, mark);
        }
    }

    /// What utimensat(2) reports as a change of content (`fsnotify_change` in the kernel) is setting
    /// the modification time and nothing else; with both times left out it returns before it has
    /// looked at the path. The host's server takes `mark` for what it is and changes nothing.
    fn announce_one(&self, path: &[u8], mark: Timespec) -> rustix::io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: mark,
        };
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let (above, name) = match relative.iter().rposition(|byte| *byte == b'/') {
            Some(at) => relative.split_at_checked(at).unwrap_or_default(),
            None => (&b""[..], relative),
        };
        let name = name.strip_prefix(b"/").unwrap_or(name);
        if name.is_empty() {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            return rustix::fs::utimensat(&self.root, ".", &times, flags);
        }
        let above = if above.is_empty() { &b"."[..] } else { above };
        let directory = Self::open(self.root.as_fd(), above, OFlags::DIRECTORY)?;
        // A name that is about to be made is always looked up anew, so what the kernel remembers
        // of it (another file, or that there is none) ends here. From another filesystem nothing
        // can be linked: EXDEV, or EEXIST.
        let _ = rustix::fs::linkat(CWD, "/proc/version", &directory, name, AtFlags::empty());
        let file = Self::open(directory.as_fd(), name, OFlags::empty())?;
        // What is cached of its content ends here, when it is another one: with the stat where the
        // kernel compares times, and otherwise with an open (`fuse_finish_open` in the kernel).
        let force = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let found = rustix::fs::statx(&file, c"", force, StatxFlags::BASIC_STATS)?;
        if FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let _ = rustix::fs::openat(&directory, name, flags, Mode::empty());
        }
        rustix::fs::utimensat(&file, c"", &times, AtFlags::EMPTY_PATH)
    }

    /// Never out of this mount, and never along a symlink.
    fn open(from: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The last name may be a symlink itself (openat2(2), O_PATH with O_NOFOLLOW).
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_XDEV
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(from, path, flags, Mode::empty(), resolve)
    }
}
