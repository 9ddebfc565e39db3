//! `/proc/self/fd`: the way from an `O_PATH` descriptor to operations that need a path or an
//! opened file, without resolving any name again.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::path::DecInt;

use super::HostDirError;
use crate::Errno;

/// The directory of this process' descriptors.
pub(super) struct ProcFd {
    directory: OwnedFd,
}

impl ProcFd {
    pub(super) fn open() -> Result<Self, HostDirError> {
        let failed = |errno: rustix::io::Errno| HostDirError::Proc(errno.into());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open("/proc/self/fd", flags, Mode::empty()).map_err(failed)?;
        let found = rustix::fs::fstatfs(&directory).map_err(failed)?;
        if found.f_type != rustix::fs::PROC_SUPER_MAGIC {
            return Err(HostDirError::Proc(std::io::Error::other("it is not procfs")));
        }
        Ok(Self { directory })
    }

    /// The directory, to be used with [`name`](Self::name).
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The name of a descriptor in it. Following it leads to the object itself, also when that is
    /// a symlink, which is not followed any further.
    pub(super) fn name(fd: BorrowedFd<'_>) -> DecInt {
        DecInt::from_fd(fd)
    }

    /// The same as an absolute path, for calls that have no directory argument.
    pub(super) fn path(fd: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    /// Opens the object behind a descriptor. Only for files and directories: opening anything
    /// else has effects of its own.
    pub(super) fn open_object(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(rustix::fs::openat(&self.directory, Self::name(fd), flags, Mode::empty())?)
    }

    /// Gives the object behind a descriptor a name.
    pub(super) fn link(
        &self,
        fd: BorrowedFd<'_>,
        directory: BorrowedFd<'_>,
        name: &std::ffi::CStr,
    ) -> Result<(), Errno> {
        let follow = AtFlags::SYMLINK_FOLLOW;
        Ok(rustix::fs::linkat(&self.directory, Self::name(fd), directory, name, follow)?)
    }
}
