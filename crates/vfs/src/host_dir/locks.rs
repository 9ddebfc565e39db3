//! Locks, as locks of the host: so guests on the same directory, and the host, see each other's.
//!
//! A flock belongs to the guest's open file, whose descriptor here takes it. An fcntl lock belongs
//! to a process and a file, however often that process has it open: each such pair has a
//! descriptor of its own, with open file description locks. It is closed when the process closes
//! any descriptor of the file (FLUSH), as POSIX wants it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation, OFlags};

use super::{Access, HostDir};
use crate::{Errno, Event, Handle, Inode, Kind, Lock, LockFamily, LockKind, Observer};

/// How often a lock that is held is tried again: at first, and at last.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The descriptors of processes with fcntl locks.
pub(super) struct LockOwners {
    descriptors: Mutex<HashMap<(Inode, u64), Arc<OwnedFd>>>,
    limit: usize,
    observer: Observer,
}

impl LockOwners {
    pub(super) fn new(limit: usize, observer: Observer) -> Self {
        Self { descriptors: Mutex::default(), limit, observer }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(Inode, u64), Arc<OwnedFd>>) -> T) -> T {
        work(&mut self.descriptors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of a process' locks on a file end.
    pub(super) fn end(&self, inode: Inode, owner: u64) {
        drop(self.with(|all| all.remove(&(inode, owner))));
    }

    /// All locks on a file, or on every file, end.
    pub(super) fn end_all(&self, of: Option<Inode>) {
        self.with(|all| match of {
            Some(inode) => all.retain(|(locked, _), _| *locked != inode),
            None => all.clear(),
        });
    }

    fn get(&self, inode: Inode, owner: u64) -> Option<Arc<OwnedFd>> {
        self.with(|all| all.get(&(inode, owner)).cloned())
    }

    fn keep(&self, inode: Inode, owner: u64, fd: OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        self.with(|all| {
            if all.len() >= self.limit {
                let what = "processes with locks on a file";
                self.observer.report(Event::Limit { what, limit: self.limit });
                return Err(Errno::ENOLCK);
            }
            Ok(Arc::clone(all.entry((inode, owner)).or_insert_with(|| Arc::new(fd))))
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.with(|all| all.len())
    }
}

impl HostDir {
    pub(super) fn find_lock(&self, inode: Inode, lock: &Lock) -> Result<Lock, Errno> {
        let fd = match self.lock_owners.get(inode, lock.owner) {
            Some(fd) => fd,
            None => Arc::new(self.open_for_locks(inode, LockKind::Shared)?),
        };
        let mut wanted = flock_of(lock);
        fcntl(&*fd, FcntlArg::F_OFD_GETLK(&mut wanted))?;
        let kind = match i32::from(wanted.l_type) {
            libc::F_RDLCK => LockKind::Shared,
            libc::F_WRLCK => LockKind::Exclusive,
            _ => return Ok(Lock { kind: LockKind::Unlock, ..*lock }),
        };
        let start = wanted.l_start.cast_unsigned();
        let end = match wanted.l_len {
            0 => i64::MAX.cast_unsigned(),
            length => start.saturating_add(length.cast_unsigned() - 1),
        };
        // Whose it is the host does not tell for such locks.
        Ok(Lock { kind, start, end, pid: 0, ..*lock })
    }

    pub(super) async fn take_lock(
        &self,
        inode: Inode,
        handle: Handle,
        lock: Lock,
        wait: bool,
    ) -> Result<(), Errno> {
        let fd = match lock.family {
            LockFamily::Flock => self.files.get(inode, handle)?,
            LockFamily::Posix => match self.lock_owners.get(inode, lock.owner) {
                Some(fd) => fd,
                None if lock.kind == LockKind::Unlock => return Ok(()),
                None => {
                    let fd = self.open_for_locks(inode, lock.kind)?;
                    self.lock_owners.keep(inode, lock.owner, fd)?
                }
            },
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match try_lock(&fd, &lock) {
                Err(Errno::EAGAIN | Errno::EACCES) if wait => {}
                Err(Errno::EACCES) => return Err(Errno::EAGAIN),
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn open_for_locks(&self, inode: Inode, kind: LockKind) -> Result<OwnedFd, Errno> {
        let node = self.nodes.get(inode)?;
        if node.kind != Kind::File {
            return Err(Errno::EINVAL);
        }
        let fd = self.nodes.fd(&node)?;
        let writable = self.options.access == Access::ReadWrite;
        let both = if writable {
            self.proc_fd.open_object(fd.as_fd(), OFlags::RDWR)
        } else {
            Err(Errno::EROFS)
        };
        both.or_else(|_| {
            let one = match kind {
                LockKind::Exclusive if writable => OFlags::WRONLY,
                _ => OFlags::RDONLY,
            };
            self.proc_fd.open_object(fd.as_fd(), one)
        })
    }
}

fn try_lock(fd: &OwnedFd, lock: &Lock) -> Result<(), Errno> {
    match lock.family {
        LockFamily::Flock => Ok(rustix::fs::flock(
            fd,
            match lock.kind {
                LockKind::Shared => FlockOperation::NonBlockingLockShared,
                LockKind::Exclusive => FlockOperation::NonBlockingLockExclusive,
                LockKind::Unlock => FlockOperation::NonBlockingUnlock,
            },
        )?),
        LockFamily::Posix => {
            fcntl(fd.as_fd(), FcntlArg::F_OFD_SETLK(&flock_of(lock)))?;
            Ok(())
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "F_RDLCK and its like are 0, 1 and 2")]
fn flock_of(lock: &Lock) -> libc::flock {
    let kind = match lock.kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    };
    let to_the_end = lock.end >= i64::MAX.cast_unsigned();
    let length = if to_the_end { 0 } else { (lock.end - lock.start + 1).cast_signed() };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: lock.start.cast_signed(),
        l_len: length,
        l_pid: 0,
    }
}
