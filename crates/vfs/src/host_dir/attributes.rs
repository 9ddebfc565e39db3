//! What the host says about a file, and what of it the guest sees; changes to it.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags, Timespec, Timestamps};

use super::HostDir;
use super::node::{FileId, Node, Stamp};
use super::proc_fd::ProcFd;
use crate::{Attr, Changes, Errno, Kind, Name, SetTime, Time};

pub(super) const SET_USER_ID: u32 = 0o4000;
pub(super) const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// What statx said.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) id: FileId,
    pub(super) kind: Kind,
    pub(super) born: Option<(i64, u32)>,
    /// Something is mounted here.
    pub(super) mount_root: bool,
    stat: Statx,
}

impl Found {
    pub(super) fn permissions(&self) -> u32 {
        u32::from(self.stat.stx_mode) & 0o7777
    }

    pub(super) fn stamp(&self) -> Stamp {
        let (modified, changed) = (time(self.stat.stx_mtime), time(self.stat.stx_ctime));
        Stamp { size: self.stat.stx_size, modified, changed }
    }

    fn new(stat: Statx) -> Result<Self, Errno> {
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        let born = (stat.stx_mask & StatxFlags::BTIME.bits() != 0)
            .then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec));
        Ok(Self {
            id: FileId { device, ino: stat.stx_ino },
            kind: Kind::from_mode(u32::from(stat.stx_mode)).ok_or(Errno::EIO)?,
            born,
            mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            stat,
        })
    }
}

fn time(at: rustix::fs::StatxTimestamp) -> Time {
    Time { seconds: at.tv_sec, nanos: at.tv_nsec }
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::BTIME
}

/// Of an open file.
pub(super) fn of_fd(fd: BorrowedFd<'_>) -> Result<Found, Errno> {
    Found::new(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted())?)
}

/// Of what a name leads to, not following it.
pub(super) fn of_name(directory: BorrowedFd<'_>, name: &Name) -> Result<Found, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Found::new(rustix::fs::statx(directory, name.as_c_str(), flags, wanted())?)
}

/// Numbers for the devices of a tree, so that files of two of them never have one inode number.
#[derive(Default)]
pub(super) struct Devices {
    known: Mutex<HashMap<u64, u64>>,
}

impl Devices {
    /// The first one asked about keeps its files' numbers as they are.
    pub(super) fn ino_in_guest(&self, id: FileId) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.len() as u64;
        let index = *known.entry(id.device).or_insert(next);
        id.ino.wrapping_add(index << 48)
    }
}

impl HostDir {
    /// What the guest sees of it.
    pub(super) fn attr(&self, found: &Found) -> Attr {
        let stat = &found.stat;
        let mut permissions = found.permissions();
        if !self.options.set_id && found.kind != Kind::Directory {
            permissions &= !(SET_USER_ID | SET_GROUP_ID);
        }
        Attr {
            ino: self.devices.ino_in_guest(found.id),
            kind: found.kind,
            permissions,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            nlink: stat.stx_nlink,
            uid: self.owners.uid_in_guest(stat.stx_uid),
            gid: self.owners.gid_in_guest(stat.stx_gid),
            // A device of the host's number would be another one in the guest.
            rdev: 0,
            block_size: stat.stx_blksize,
            accessed: time(stat.stx_atime),
            modified: time(stat.stx_mtime),
            changed: time(stat.stx_ctime),
        }
    }

    pub(super) fn attr_of(&self, node: &Arc<Node>) -> Result<Attr, Errno> {
        let fd = self.nodes.fd(node)?;
        Ok(self.attr(&of_fd(fd.as_fd())?))
    }

    /// Set-id bits are refused rather than dropped in silence; on directories they only hand the
    /// group down.
    pub(super) fn check_set_id(&self, kind: Kind, permissions: u32) -> Result<(), Errno> {
        let set_id = permissions & (SET_USER_ID | SET_GROUP_ID) != 0;
        if set_id && kind != Kind::Directory && !self.options.set_id {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    pub(super) fn change(
        &self,
        node: &Arc<Node>,
        file: Option<&OwnedFd>,
        changes: &Changes,
    ) -> Result<(), Errno> {
        let fd = self.nodes.fd(node)?;
        let fd = fd.as_fd();
        if let Some(permissions) = changes.permissions {
            self.check_set_id(node.kind, permissions)?;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            self.owners.change(fd, changes.uid, changes.gid)?;
        }
        if let Some(permissions) = changes.permissions {
            self.set_permissions(fd, permissions)?;
        }
        if let Some(size) = changes.size {
            self.truncate(node, fd, file, size)?;
        }
        if changes.drop_set_id {
            self.drop_set_id(fd)?;
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(changes.accessed),
                last_modification: timespec(changes.modified),
            };
            let name = ProcFd::name(fd);
            rustix::fs::utimensat(self.proc_fd.directory(), name, &times, AtFlags::empty())?;
        }
        Ok(())
    }

    pub(super) fn set_permissions(&self, fd: BorrowedFd<'_>, bits: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(bits & 0o7777);
        let name = ProcFd::name(fd);
        Ok(rustix::fs::chmodat(self.proc_fd.directory(), name, mode, AtFlags::empty())?)
    }

    fn truncate(
        &self,
        node: &Node,
        fd: BorrowedFd<'_>,
        file: Option<&OwnedFd>,
        size: u64,
    ) -> Result<(), Errno> {
        match node.kind {
            Kind::File => {}
            Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        match file {
            Some(file) => rustix::fs::ftruncate(file, size)?,
            None => {
                let file = self.proc_fd.open_object(fd, OFlags::WRONLY)?;
                rustix::fs::ftruncate(&file, size)?;
            }
        }
        Ok(())
    }

    /// What the kernel does for writers without `CAP_FSETID`, for this process that may have it.
    pub(super) fn drop_set_id(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        let found = of_fd(fd)?;
        let old = found.permissions();
        let mut new = old & !SET_USER_ID;
        if old & GROUP_EXECUTE != 0 {
            new &= !SET_GROUP_ID;
        }
        if found.kind == Kind::File && new != old {
            self.set_permissions(fd, new)?;
        }
        Ok(())
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(SetTime::To(time)) => Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() },
    }
}
