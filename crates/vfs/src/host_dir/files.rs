//! Open files: reading, writing, and what else needs a descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, Mode, OFlags, ResolveFlags, SeekFrom};

use super::HostDir;
use super::attributes;
use super::node::{Node, Realm};
use super::node_table::Sighting;
use super::place::{Place, open_name};
use crate::buffer::ReadMode;
use crate::{
    AllocateMode, Body, Caller, Entry, Errno, Handle, Inode, Kind, OpenFlags, Opened, Readable,
    Seek, WriteFlags,
};

/// One copy_file_range is cut to this, so that it ends in reasonable time.
const COPY_MAX: u64 = 64 << 20;

impl HostDir {
    fn open_flags(&self, flags: OpenFlags) -> OFlags {
        // O_APPEND is told with each write: pages written back have their own offsets. O_DIRECT
        // wants alignments that the guest's buffers do not have.
        let mut host = match (flags.read, flags.write) {
            (_, false) => OFlags::RDONLY,
            // The guest reads what it writes a part of.
            (false, true) if !self.options.exclusive => OFlags::WRONLY,
            _ => OFlags::RDWR,
        };
        if flags.truncate {
            host |= OFlags::TRUNC;
        }
        if flags.sync {
            host |= OFlags::SYNC;
        } else if flags.data_sync {
            host |= OFlags::DSYNC;
        }
        host
    }

    pub(super) fn open_node(&self, node: &Arc<Node>, flags: OpenFlags) -> Result<Opened, Errno> {
        match node.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR),
            Kind::Symlink => return Err(Errno::ELOOP),
            // FIFOs and sockets are the guest kernel's own; devices are never opened.
            _ => return Err(Errno::ENXIO),
        }
        let fd = self.nodes.fd(node)?;
        let file = match self.proc_fd.open_object(fd.as_fd(), self.open_flags(flags)) {
            Err(Errno::EACCES) if flags.write && !flags.read => {
                let exact = (self.open_flags(flags) - OFlags::RWMODE) | OFlags::WRONLY;
                self.proc_fd.open_object(fd.as_fd(), exact)?
            }
            opened => opened?,
        };
        if flags.drop_set_id && flags.truncate {
            self.drop_set_id(fd.as_fd())?;
        }
        let unchanged = node.unchanged_since_last_open(&attributes::of_fd(file.as_fd())?);
        self.opened(node.inode, file, unchanged)
    }

    fn opened(&self, inode: Inode, file: OwnedFd, unchanged: bool) -> Result<Opened, Errno> {
        let handle = self.files.insert(inode, file)?;
        let keep_cache = self.options.exclusive || unchanged;
        Ok(Opened { handle, direct: false, keep_cache })
    }

    pub(super) fn create_file(
        &self,
        caller: Caller,
        place: &Place<'_>,
        permissions: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), Errno> {
        self.check_set_id(Kind::File, permissions)?;
        let host = self.open_flags(flags)
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let (mode, name) = (Mode::from_raw_mode(permissions), place.name.as_c_str());
        match rustix::fs::openat2(place.directory(), name, host, mode, resolve) {
            Ok(file) => {
                self.finish_new(caller, place.directory(), file.as_fd(), Some(permissions))?;
                let path = self.proc_fd.open_object(file.as_fd(), OFlags::PATH)?;
                let entry = self.adopt(place, path)?;
                self.with_entry(entry, |fs| fs.opened(entry.inode, file, false))
            }
            Err(rustix::io::Errno::EXIST) if !flags.exclusive => {
                let fd = open_name(place.directory(), place.name, self.options.submounts)?;
                let entry = self.adopt(place, fd)?;
                self.with_entry(entry, |fs| fs.open_node(&fs.nodes.get(entry.inode)?, flags))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the lookup back when what goes with it fails.
    fn with_entry(
        &self,
        entry: Entry,
        open: impl FnOnce(&Self) -> Result<Opened, Errno>,
    ) -> Result<(Entry, Opened), Errno> {
        match open(self) {
            Ok(opened) => Ok((entry, opened)),
            Err(errno) => {
                self.nodes.forget(entry.inode, 1);
                Err(errno)
            }
        }
    }

    /// `O_TMPFILE`: a file that has no name, and may be given one by a link.
    pub(super) fn temporary_file(
        &self,
        caller: Caller,
        parent: Inode,
        permissions: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened), Errno> {
        self.check_set_id(Kind::File, permissions)?;
        let parent = self.nodes.get(parent)?;
        if parent.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let directory = self.nodes.fd(&parent)?;
        let mut host = self.open_flags(flags) | OFlags::TMPFILE | OFlags::CLOEXEC;
        if flags.exclusive {
            host |= OFlags::EXCL;
        }
        let name = super::proc_fd::ProcFd::name(directory.as_fd());
        let mode = Mode::from_raw_mode(permissions);
        let file = rustix::fs::openat(self.proc_fd.directory(), name, host, mode)?;
        self.finish_new(caller, directory.as_fd(), file.as_fd(), Some(permissions))?;
        let path = self.proc_fd.open_object(file.as_fd(), OFlags::PATH)?;
        let found = attributes::of_fd(path.as_fd())?;
        let realm: Realm = parent.realm;
        let node = self.nodes.count(Sighting { found, realm, step: None, location: None }, path)?;
        let entry = self.entry(&node, &found);
        self.with_entry(entry, |fs| fs.opened(entry.inode, file, false))
    }

    /// Straight from the page cache into the guest; what must come from a disk first is waited
    /// for on another thread.
    pub(super) async fn read_file(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        body: &mut Body<'_>,
    ) -> Result<(), Errno> {
        let file = self.files.get(inode, handle)?;
        let mut mode = ReadMode::NoWait;
        while body.room() > 0 {
            let at = offset + body.filled() as u64;
            match body.read_from(file.as_fd(), at, mode) {
                Ok(0) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                // That filesystem cannot say whether it would wait. A local one hardly does.
                Err(Errno::EOPNOTSUPP) if mode == ReadMode::NoWait && !self.remote => {
                    mode = ReadMode::Plain;
                }
                Err(Errno::EAGAIN | Errno::EOPNOTSUPP) if mode == ReadMode::NoWait => {
                    let room = body.room();
                    let bytes = blocking(move || read_cold(&file, at, room)).await?;
                    body.push(&bytes);
                    break;
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    pub(super) fn write_file(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        data: &mut Readable,
        flags: WriteFlags,
    ) -> Result<usize, Errno> {
        let file = self.files.get(inode, handle)?;
        let count = data.write_to(file.as_fd(), offset, flags.append)?;
        if flags.drop_set_id {
            self.drop_set_id(file.as_fd())?;
        }
        Ok(count)
    }

    pub(super) async fn sync_file(&self, file: Arc<OwnedFd>, data_only: bool) -> Result<(), Errno> {
        blocking(move || {
            if data_only { rustix::fs::fdatasync(&*file) } else { rustix::fs::fsync(&*file) }
                .map_err(Errno::from)
        })
        .await
    }

    pub(super) async fn allocate_range(
        &self,
        file: Arc<OwnedFd>,
        (offset, length): (u64, u64),
        mode: AllocateMode,
    ) -> Result<(), Errno> {
        let mode = FallocateFlags::from_bits_truncate(mode.bits());
        blocking(move || Ok(rustix::fs::fallocate(&*file, mode, offset, length)?)).await
    }

    pub(super) fn seek_in(file: &OwnedFd, seek: Seek) -> Result<u64, Errno> {
        let to = match seek {
            Seek::Data(offset) => SeekFrom::Data(offset),
            Seek::Hole(offset) => SeekFrom::Hole(offset),
        };
        Ok(rustix::fs::seek(file, to)?)
    }

    pub(super) async fn copy(
        &self,
        (from, mut at): (Arc<OwnedFd>, u64),
        (to, mut put): (Arc<OwnedFd>, u64),
        length: u64,
    ) -> Result<usize, Errno> {
        let length = usize::try_from(length.min(COPY_MAX)).unwrap_or(0);
        blocking(move || {
            let (at, put) = (Some(&mut at), Some(&mut put));
            Ok(rustix::fs::copy_file_range(&*from, at, &*to, put, length)?)
        })
        .await
    }
}

fn read_cold(file: &OwnedFd, offset: u64, room: usize) -> Result<Vec<u8>, Errno> {
    let file = std::fs::File::from(file.try_clone()?);
    let mut bytes = vec![0; room];
    let mut done = 0;
    while done < room {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// On a thread that may wait for a disk. If the request is abandoned meanwhile the work still
/// ends by itself; it holds nothing of the guest.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Errno> + Send + 'static,
) -> Result<T, Errno> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Errno::EIO))
}
