//! From a directory and a name to where on the host that is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::HostDir;
use super::mask::{Masked, Step};
use super::node::{Directory, Location, Node, Realm};
use crate::{Errno, Inode, Kind, Name};

/// A name in a directory of the host, after masks.
pub(super) struct Place<'a> {
    pub(super) name: &'a Name,
    pub(super) realm: Realm,
    /// What the name is on the way to, if it is a directory.
    pub(super) step: Option<Step>,
    pub(super) parent: Arc<Node>,
    fd: Arc<OwnedFd>,
    from_storage: bool,
}

impl Place<'_> {
    /// The directory.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn location(&self) -> Location {
        let directory = if self.from_storage {
            Directory::Storage(Arc::clone(&self.fd))
        } else {
            Directory::Node(Arc::clone(&self.parent))
        };
        Location { directory, name: self.name.clone() }
    }
}

impl HostDir {
    /// Where `name` in `parent` is; `absent` when it is masked without a storage.
    pub(super) fn place<'a>(
        &self,
        parent: Inode,
        name: &'a Name,
        absent: Errno,
    ) -> Result<Place<'a>, Errno> {
        let parent = self.nodes.get(parent)?;
        self.place_in(parent, name, absent)
    }

    pub(super) fn place_in<'a>(
        &self,
        parent: Arc<Node>,
        name: &'a Name,
        absent: Errno,
    ) -> Result<Place<'a>, Errno> {
        if parent.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let (fd, realm, step, from_storage) = match self.mask.find(parent.step(), name.as_bytes()) {
            Masked::No => (self.nodes.fd(&parent)?, parent.realm, None, false),
            Masked::OnTheWay(step) => (self.nodes.fd(&parent)?, parent.realm, Some(step), false),
            Masked::Redirected(fd) => (fd, Realm::Storage, None, true),
            Masked::Absent => return Err(absent),
        };
        Ok(Place { name, realm, step, parent, fd, from_storage })
    }
}

/// Opens what is at `name` itself, whatever it is, without any of its effects (`O_PATH`).
pub(super) fn open_name(
    directory: BorrowedFd<'_>,
    name: &Name,
    submounts: bool,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    if !submounts {
        resolve |= ResolveFlags::NO_XDEV;
    }
    match rustix::fs::openat2(directory, name.as_c_str(), flags, Mode::empty(), resolve) {
        // A mount that is not entered is there, but closed.
        Err(rustix::io::Errno::XDEV) => Err(Errno::EACCES),
        opened => Ok(opened?),
    }
}
