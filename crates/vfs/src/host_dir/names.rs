//! Looking names up, making, moving and removing them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dev, FileType, Mode, RenameFlags};

use super::HostDir;
use super::attributes::{self, Found, SET_GROUP_ID};
use super::node::Node;
use super::node_table::Sighting;
use super::place::{Place, open_name};
use crate::{Caller, Entry, Errno, Inode, Kind, Name, RenameMode, Target};

/// What may be made without opening it.
pub(super) enum Make<'a> {
    File,
    Fifo,
    Socket,
    Directory,
    Symlink(&'a Target),
}

impl Make<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::File => Kind::File,
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
            Self::Directory => Kind::Directory,
            Self::Symlink(_) => Kind::Symlink,
        }
    }
}

impl HostDir {
    pub(super) fn entry(&self, node: &Node, found: &Found) -> Entry {
        let (attr_ttl, entry_ttl) = (self.options.cache.attr, self.options.cache.entry);
        Entry { inode: node.inode, attr: self.attr(found), attr_ttl, entry_ttl }
    }

    pub(super) fn sighting(place: &Place<'_>, found: Found) -> Sighting {
        // Only a directory leads further.
        let step = place.step.filter(|_| found.kind == Kind::Directory);
        Sighting { found, realm: place.realm, step, location: Some(place.location()) }
    }

    /// Counts a lookup of what is at a place.
    pub(super) fn look(&self, place: &Place<'_>) -> Result<Entry, Errno> {
        let found = attributes::of_name(place.directory(), place.name)?;
        if found.mount_root && !self.options.submounts {
            return Err(Errno::EACCES);
        }
        if let Some(node) = self.nodes.count_known(&Self::sighting(place, found)) {
            return Ok(self.entry(&node, &found));
        }
        let fd = open_name(place.directory(), place.name, self.options.submounts)?;
        self.adopt(place, fd)
    }

    /// Counts a lookup of an open file that was found or made at a place.
    pub(super) fn adopt(&self, place: &Place<'_>, fd: OwnedFd) -> Result<Entry, Errno> {
        let found = attributes::of_fd(fd.as_fd())?;
        if self.options.submounts {
            super::source::refuse_special(fd.as_fd()).map_err(|_| Errno::EACCES)?;
        }
        let node = self.nodes.count(Self::sighting(place, found), fd)?;
        Ok(self.entry(&node, &found))
    }

    pub(super) fn make(
        &self,
        caller: Caller,
        place: &Place<'_>,
        permissions: u32,
        what: &Make<'_>,
    ) -> Result<Entry, Errno> {
        let kind = what.kind();
        self.check_set_id(kind, permissions)?;
        let (directory, name) = (place.directory(), place.name.as_c_str());
        let mode = Mode::from_raw_mode(permissions);
        let node = |kind| rustix::fs::mknodat(directory, name, kind, mode, Dev::default());
        match what {
            Make::File => node(FileType::RegularFile)?,
            Make::Fifo => node(FileType::Fifo)?,
            Make::Socket => node(FileType::Socket)?,
            Make::Directory => rustix::fs::mkdirat(directory, name, mode)?,
            Make::Symlink(target) => {
                rustix::fs::symlinkat(target.as_c_str(), directory, name)?;
            }
        }
        let fd = open_name(directory, place.name, self.options.submounts)?;
        let permissions = (kind != Kind::Symlink).then_some(permissions);
        self.finish_new(caller, directory, fd.as_fd(), permissions)?;
        self.adopt(place, fd)
    }

    /// Gives what was just made its owner, and the permissions that this process' umask or the
    /// change of owner took.
    pub(super) fn finish_new(
        &self,
        caller: Caller,
        directory: BorrowedFd<'_>,
        fd: BorrowedFd<'_>,
        permissions: Option<u32>,
    ) -> Result<(), Errno> {
        let gives_away = self.owners.gives_away(caller);
        if gives_away {
            let parent = attributes::of_fd(directory)?;
            self.owners.give(fd, caller, parent.permissions() & SET_GROUP_ID != 0)?;
        }
        let Some(permissions) = permissions else { return Ok(()) };
        if permissions & self.owners.umask != 0 || (gives_away && permissions & 0o6000 != 0) {
            // A directory keeps the set-group-id bit it inherited.
            let inherited = attributes::of_fd(fd)?.permissions() & SET_GROUP_ID;
            self.set_permissions(fd, permissions | inherited)?;
        }
        Ok(())
    }

    pub(super) fn remove(&self, parent: Inode, name: &Name, flags: AtFlags) -> Result<(), Errno> {
        let place = self.place(parent, name, Errno::ENOENT)?;
        if flags.contains(AtFlags::REMOVEDIR)
            && let Some(step) = place.step
        {
            self.refuse_with_redirected_entries(step)?;
        }
        self.keep_victim(&place);
        Ok(rustix::fs::unlinkat(place.directory(), name.as_c_str(), flags)?)
    }

    /// A directory is not empty while a name in it leads to something in the storage.
    fn refuse_with_redirected_entries(&self, step: super::mask::Step) -> Result<(), Errno> {
        for (name, storage) in self.mask.redirected(step) {
            let name = Name::new(&name)?;
            if attributes::of_name(storage.as_fd(), &name).is_ok() {
                return Err(Errno::ENOTEMPTY);
            }
        }
        Ok(())
    }

    /// What is about to lose this name stays reachable for those who have it open.
    fn keep_victim(&self, place: &Place<'_>) {
        if self.nodes.any_closed()
            && let Ok(fd) = open_name(place.directory(), place.name, self.options.submounts)
            && let Ok(found) = attributes::of_fd(fd.as_fd())
        {
            self.nodes.keep(found.id, fd);
        }
    }

    pub(super) fn move_name(
        &self,
        from: (Inode, &Name),
        to: (Inode, &Name),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let old = self.place(from.0, from.1, Errno::ENOENT)?;
        let new = self.place(to.0, to.1, Errno::EACCES)?;
        if old.realm != new.realm {
            return Err(Errno::EXDEV);
        }
        // Under another name its hidden part would be visible.
        let on_the_way = old.step.is_some() && is_directory(&old);
        if on_the_way || (mode == RenameMode::Exchange && new.step.is_some() && is_directory(&new))
        {
            return Err(Errno::EBUSY);
        }
        if let Some(step) = new.step
            && is_directory(&new)
        {
            self.refuse_with_redirected_entries(step)?;
        }
        self.keep_victim(&new);
        self.keep_victim(&old);
        let flags = match mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let (name, new_name) = (old.name.as_c_str(), new.name.as_c_str());
        rustix::fs::renameat_with(old.directory(), name, new.directory(), new_name, flags)?;
        self.seen_after_move(&new);
        if mode == RenameMode::Exchange {
            self.seen_after_move(&old);
        }
        Ok(())
    }

    /// A moved node learns its new place.
    fn seen_after_move(&self, place: &Place<'_>) {
        if let Ok(found) = attributes::of_name(place.directory(), place.name) {
            self.found_after_guest(&found);
            let sighting = Self::sighting(place, found);
            if let Some(node) = self.nodes.count_known(&sighting) {
                self.nodes.forget(node.inode, 1);
            }
        }
    }

    pub(super) fn add_name(
        &self,
        inode: Inode,
        parent: Inode,
        name: &Name,
    ) -> Result<Entry, Errno> {
        let node = self.nodes.get(inode)?;
        let place = self.place(parent, name, Errno::EACCES)?;
        if node.realm != place.realm {
            return Err(Errno::EXDEV);
        }
        if node.kind == Kind::Directory {
            return Err(Errno::EPERM);
        }
        let fd = self.nodes.fd(&node)?;
        self.proc_fd.link(fd.as_fd(), place.directory(), name.as_c_str())?;
        let found = attributes::of_fd(fd.as_fd())?;
        let node: Arc<Node> =
            self.nodes.count_known(&Self::sighting(&place, found)).ok_or(Errno::ESTALE)?;
        Ok(self.entry(&node, &found))
    }
}

fn is_directory(place: &Place<'_>) -> bool {
    attributes::of_name(place.directory(), place.name)
        .is_ok_and(|found| found.kind == Kind::Directory)
}
