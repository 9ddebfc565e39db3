//! A host directory as a [`FileSystem`].

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::attributes::{self, Devices};
use super::directories::OpenDirectory;
use super::files::blocking;
use super::guest_changes::GuestChanges;
use super::locks::LockOwners;
use super::mask::MaskTree;
use super::names::Make;
use super::node_table::NodeTable;
use super::owners::Owners;
use super::proc_fd::ProcFd;
use super::source::{is_remote, refuse_nested, refuse_special};
use super::{Access, HostDirError, HostDirOptions};
use crate::fuse::DirectorySink;
use crate::handle_table::HandleTable;
use crate::{
    AllocateMode, Attr, Body, Caller, Changes, Entry, Errno, FileSystem, Handle, Inode, Kind, Lock,
    Name, Observer, OpenFlags, Opened, Place, Profile, Readable, RenameMode, Seek, StatFs, Target,
    WriteFlags,
};

/// A directory of the host, for one guest.
pub struct HostDir {
    pub(super) options: HostDirOptions,
    pub(super) owners: Owners,
    pub(super) proc_fd: ProcFd,
    pub(super) mask: MaskTree,
    pub(super) nodes: NodeTable,
    pub(super) devices: Devices,
    pub(super) files: HandleTable<OwnedFd>,
    pub(super) directories: HandleTable<OpenDirectory>,
    pub(super) lock_owners: LockOwners,
    /// What the guest changed, where somebody follows the host's changes.
    pub(super) guest_changes: OnceLock<Arc<GuestChanges>>,
    /// Served over a network, so that any call may wait.
    pub(super) remote: bool,
}

/// What a host directory holds for its guest: for metrics, and for tests of leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Inodes, the root among them.
    pub inodes: usize,
    /// Open files.
    pub files: usize,
    /// Open directories.
    pub directories: usize,
    /// Pairs of a file and a process that took fcntl locks on it.
    pub lock_owners: usize,
}

impl HostDir {
    /// Opens the source and the mask's storage.
    pub fn new(options: HostDirOptions, observer: &Observer) -> Result<Self, HostDirError> {
        let source = &options.source;
        let failed = |errno: rustix::io::Errno| HostDirError::Open {
            path: source.clone(),
            source: errno.into(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(source, flags, Mode::empty()).map_err(failed)?;
        refuse_special(root.as_fd()).map_err(|kind| match kind {
            Ok(kind) => HostDirError::Special { path: source.clone(), kind },
            Err(errno) => failed(errno),
        })?;
        if let Some(storage) = &options.mask.storage {
            refuse_nested(source, storage)?;
        }
        let remote = rustix::fs::fstatfs(&root).is_ok_and(|found| is_remote(found.f_type));
        let mask = MaskTree::new(&options.mask)?;
        let found = attributes::of_fd(root.as_fd()).map_err(|errno| HostDirError::Open {
            path: source.clone(),
            source: std::io::Error::from_raw_os_error(errno.number()),
        })?;
        let limits = options.limits;
        let devices = Devices::default();
        devices.ino_in_guest(found.id);
        Ok(Self {
            owners: Owners::new(options.guest_owner),
            proc_fd: ProcFd::open()?,
            nodes: NodeTable::new(
                root,
                &found,
                mask.root(),
                (limits.inodes, limits.inode_descriptors),
                options.submounts,
                observer.clone(),
            ),
            mask,
            devices,
            files: HandleTable::new(limits.handles, observer.clone()),
            directories: HandleTable::new(limits.handles, observer.clone()),
            lock_owners: LockOwners::new(limits.lock_owners, observer.clone()),
            guest_changes: OnceLock::new(),
            remote,
            options,
        })
    }

    /// What is held for the guest at the moment.
    pub fn held(&self) -> Held {
        let (files, directories) = (self.files.len(), self.directories.len());
        Held { inodes: self.nodes.len(), files, directories, lock_owners: self.lock_owners.len() }
    }
}

impl FileSystem for HostDir {
    fn profile(&self) -> Profile {
        Profile {
            read_only: self.options.access == Access::ReadOnly,
            write_back: self.options.exclusive,
            posix_locks: true,
            flock: true,
            entries_with_readdir: true,
            cache_symlinks: self.options.exclusive,
            ..Profile::default()
        }
    }

    fn reset(&self) {
        self.files.clear();
        self.directories.clear();
        self.lock_owners.end_all(None);
        self.nodes.clear();
    }

    fn forget(&self, inode: Inode, count: u64) {
        self.nodes.forget(inode, count);
        if self.nodes.get(inode).is_err() {
            self.lock_owners.end_all(Some(inode));
        }
    }

    async fn lookup(&self, _: Caller, parent: Inode, name: &Name) -> Result<Entry, Errno> {
        let absence = self.options.cache.absence;
        let found = self.place(parent, name, Errno::ENOENT).and_then(|place| self.look(&place));
        match found {
            Err(Errno::ENOENT) if absence > Duration::ZERO => Ok(Entry::absent(absence)),
            found => found,
        }
    }

    async fn get_attr(&self, inode: Inode, _: Option<Handle>) -> Result<(Attr, Duration), Errno> {
        let node = self.nodes.get(inode)?;
        Ok((self.attr_of(&node)?, self.options.cache.attr))
    }

    async fn set_attr(
        &self,
        inode: Inode,
        handle: Option<Handle>,
        changes: Changes,
    ) -> Result<(Attr, Duration), Errno> {
        let _changing = self.guest_changes();
        let node = self.nodes.get(inode)?;
        let file = handle.and_then(|handle| self.files.get(inode, handle).ok());
        self.change(&node, file.as_deref(), &changes)?;
        self.changed_by_guest(&[inode]);
        Ok((self.attr_of(&node)?, self.options.cache.attr))
    }

    async fn read_link(&self, inode: Inode) -> Result<Vec<u8>, Errno> {
        let node = self.nodes.get(inode)?;
        if node.kind != Kind::Symlink {
            return Err(Errno::EINVAL);
        }
        let fd = self.nodes.fd(&node)?;
        Ok(rustix::fs::readlinkat(&fd, c"", Vec::new())?.into_bytes())
    }

    async fn symlink(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        target: &Target,
    ) -> Result<Entry, Errno> {
        let _changing = self.guest_changes();
        let place = self.place(parent, name, Errno::EACCES)?;
        let entry = self.make(caller, &place, 0, &Make::Symlink(target))?;
        self.changed_by_guest(&[parent, entry.inode]);
        Ok(entry)
    }

    async fn make_node(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        mode: u32,
    ) -> Result<Entry, Errno> {
        let _changing = self.guest_changes();
        let what = match Kind::from_mode(mode) {
            Some(Kind::File) => Make::File,
            Some(Kind::Fifo) => Make::Fifo,
            Some(Kind::Socket) => Make::Socket,
            _ => return Err(Errno::EPERM),
        };
        let place = self.place(parent, name, Errno::EACCES)?;
        let entry = self.make(caller, &place, mode & 0o7777, &what)?;
        self.changed_by_guest(&[parent, entry.inode]);
        Ok(entry)
    }

    async fn make_dir(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        permissions: u32,
    ) -> Result<Entry, Errno> {
        let _changing = self.guest_changes();
        let place = self.place(parent, name, Errno::EACCES)?;
        let entry = self.make(caller, &place, permissions, &Make::Directory)?;
        self.changed_by_guest(&[parent, entry.inode]);
        Ok(entry)
    }

    async fn unlink(&self, parent: Inode, name: &Name) -> Result<(), Errno> {
        let _changing = self.guest_changes();
        self.remove(parent, name, AtFlags::empty())?;
        self.changed_by_guest(&[parent]);
        Ok(())
    }

    async fn remove_dir(&self, parent: Inode, name: &Name) -> Result<(), Errno> {
        let _changing = self.guest_changes();
        self.remove(parent, name, AtFlags::REMOVEDIR)?;
        self.changed_by_guest(&[parent]);
        Ok(())
    }

    async fn rename(
        &self,
        from: (Inode, &Name),
        to: (Inode, &Name),
        mode: RenameMode,
    ) -> Result<(), Errno> {
        let _changing = self.guest_changes();
        self.move_name(from, to, mode)?;
        self.changed_by_guest(&[from.0, to.0]);
        Ok(())
    }

    async fn link(&self, inode: Inode, parent: Inode, name: &Name) -> Result<Entry, Errno> {
        let _changing = self.guest_changes();
        let entry = self.add_name(inode, parent, name)?;
        self.changed_by_guest(&[parent, inode]);
        Ok(entry)
    }

    async fn open(&self, inode: Inode, flags: OpenFlags) -> Result<Opened, Errno> {
        let _changing = self.guest_changes();
        let node = self.nodes.get(inode)?;
        let opened = self.open_node(&node, flags)?;
        if flags.truncate {
            self.changed_by_guest(&[inode]);
        }
        Ok(opened)
    }

    async fn create(
        &self,
        caller: Caller,
        parent: Inode,
        name: &Name,
        permissions: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), Errno> {
        let _changing = self.guest_changes();
        let place = self.place(parent, name, Errno::EACCES)?;
        let created = self.create_file(caller, &place, permissions, flags)?;
        self.changed_by_guest(&[parent, created.0.inode]);
        Ok(created)
    }

    async fn temporary(
        &self,
        caller: Caller,
        parent: Inode,
        permissions: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), Errno> {
        self.temporary_file(caller, parent, permissions, flags)
    }

    async fn read(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        body: &mut Body<'_>,
    ) -> Result<(), Errno> {
        self.read_file(inode, handle, offset, body).await
    }

    async fn write(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        data: &mut Readable,
        flags: WriteFlags,
    ) -> Result<usize, Errno> {
        let _changing = self.guest_changes();
        let count = self.write_file(inode, handle, offset, data, flags)?;
        self.changed_by_guest(&[inode]);
        Ok(count)
    }

    async fn flush(&self, inode: Inode, handle: Handle, owner: u64) -> Result<(), Errno> {
        self.files.get(inode, handle)?;
        self.lock_owners.end(inode, owner);
        Ok(())
    }

    fn release(&self, inode: Inode, handle: Handle) -> Result<(), Errno> {
        self.files.remove(inode, handle).map(drop)
    }

    async fn fsync(&self, inode: Inode, handle: Handle, data_only: bool) -> Result<(), Errno> {
        self.sync_file(self.files.get(inode, handle)?, data_only).await
    }

    async fn open_dir(&self, inode: Inode) -> Result<Opened, Errno> {
        self.open_directory(inode)
    }

    async fn read_dir(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        sink: &mut DirectorySink,
    ) -> Result<(), Errno> {
        self.list(inode, handle, offset, sink)
    }

    fn release_dir(&self, inode: Inode, handle: Handle) -> Result<(), Errno> {
        self.directories.remove(inode, handle).map(drop)
    }

    async fn fsync_dir(&self, inode: Inode, handle: Handle, data_only: bool) -> Result<(), Errno> {
        let directory = self.directories.get(inode, handle)?;
        self.sync_file(std::sync::Arc::clone(&directory.fd), data_only).await
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "block sizes and name lengths are small and positive"
    )]
    async fn stat_fs(&self, inode: Inode) -> Result<StatFs, Errno> {
        let fd = self.nodes.fd(&self.nodes.get(inode)?)?;
        let stat = rustix::fs::fstatfs(&fd)?;
        Ok(StatFs {
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: stat.f_bsize as u32,
            fragment_size: stat.f_frsize as u32,
            name_max: stat.f_namelen as u32,
        })
    }

    async fn set_xattr(
        &self,
        inode: Inode,
        name: &Name,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let _changing = self.guest_changes();
        self.write_xattr(inode, name, value, flags)?;
        self.changed_by_guest(&[inode]);
        Ok(())
    }

    async fn get_xattr(&self, inode: Inode, name: &Name) -> Result<Vec<u8>, Errno> {
        self.xattr(inode, name)
    }

    async fn list_xattr(&self, inode: Inode) -> Result<Vec<u8>, Errno> {
        self.xattr_names(inode)
    }

    async fn remove_xattr(&self, inode: Inode, name: &Name) -> Result<(), Errno> {
        let _changing = self.guest_changes();
        self.drop_xattr(inode, name)?;
        self.changed_by_guest(&[inode]);
        Ok(())
    }

    async fn get_lock(&self, inode: Inode, handle: Handle, lock: Lock) -> Result<Lock, Errno> {
        self.files.get(inode, handle)?;
        self.find_lock(inode, &lock)
    }

    async fn set_lock(
        &self,
        inode: Inode,
        handle: Handle,
        lock: Lock,
        wait: bool,
    ) -> Result<(), Errno> {
        self.files.get(inode, handle)?;
        self.take_lock(inode, handle, lock, wait).await
    }

    async fn allocate(
        &self,
        inode: Inode,
        handle: Handle,
        range: (u64, u64),
        mode: AllocateMode,
    ) -> Result<(), Errno> {
        let _changing = self.guest_changes();
        self.allocate_range(self.files.get(inode, handle)?, range, mode).await?;
        self.changed_by_guest(&[inode]);
        Ok(())
    }

    async fn seek(&self, inode: Inode, handle: Handle, seek: Seek) -> Result<u64, Errno> {
        Self::seek_in(&*self.files.get(inode, handle)?, seek)
    }

    async fn copy_range(&self, from: Place, to: Place, length: u64) -> Result<usize, Errno> {
        let _changing = self.guest_changes();
        let source = self.files.get(from.inode, from.handle)?;
        let target = self.files.get(to.inode, to.handle)?;
        let count = self.copy((source, from.offset), (target, to.offset), length).await?;
        self.changed_by_guest(&[to.inode]);
        Ok(count)
    }

    async fn sync_fs(&self) -> Result<(), Errno> {
        let root = self.nodes.fd(&self.nodes.get(Inode::ROOT)?)?;
        // O_PATH descriptors cannot be synced.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.proc_fd.open_object(root.as_fd(), flags)?;
        blocking(move || Ok(rustix::fs::syncfs(&directory)?)).await
    }
}
