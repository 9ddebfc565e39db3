//! Whose files are whose: between the users of the guest and those of the host.
//!
//! Files of this process' own user and group belong to `guest_owner` in the guest, and what the
//! guest's `guest_owner` makes belongs to them. Everybody else: when this process is privileged,
//! numbers mean the same on both sides. Otherwise it cannot give files away, so what any user of
//! the guest makes belongs to this process' user, and other users of the host are "nobody".
//!
//! No credentials are switched: what is made is given to its owner right after, which is exact
//! (by descriptor), works on any thread, and cannot leave a thread with the wrong identity.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Uid};

use crate::{Caller, Errno};

/// `overflowuid`.
const NOBODY: u32 = 65_534;

/// The mapping of one mount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners {
    guest: (u32, u32),
    host: (u32, u32),
    privileged: bool,
    /// This process' umask, which the kernel takes from what is made here; the guest's own umask
    /// is in the modes already.
    pub(super) umask: u32,
}

impl Owners {
    pub(super) fn new(guest: (u32, u32)) -> Self {
        let user = rustix::process::geteuid();
        let host = (user.as_raw(), rustix::process::getegid().as_raw());
        Self { guest, host, privileged: user.is_root(), umask: process_umask() }
    }

    pub(super) fn privileged(&self) -> bool {
        self.privileged
    }

    pub(super) fn uid_in_guest(&self, host: u32) -> u32 {
        in_guest(host, self.host.0, self.guest.0, self.privileged)
    }

    pub(super) fn gid_in_guest(&self, host: u32) -> u32 {
        in_guest(host, self.host.1, self.guest.1, self.privileged)
    }

    fn on_host(&self, wanted: u32, guest: u32, host: u32) -> Result<u32, Errno> {
        match wanted {
            u32::MAX => Err(Errno::EINVAL),
            _ if wanted == guest => Ok(host),
            _ if self.privileged => Ok(wanted),
            _ => Err(Errno::EPERM),
        }
    }

    /// Serves a chown: `EPERM` where the host would not let this process.
    pub(super) fn change(
        &self,
        fd: BorrowedFd<'_>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let uid = uid.map(|uid| self.on_host(uid, self.guest.0, self.host.0)).transpose()?;
        let gid = gid.map(|gid| self.on_host(gid, self.guest.1, self.host.1)).transpose()?;
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    /// Whether what `caller` makes must be given to somebody.
    pub(super) fn gives_away(&self, caller: Caller) -> bool {
        let own = caller.uid == self.guest.0 && caller.gid == self.guest.1;
        self.privileged && !own
    }

    /// Gives what was just made to `caller`; the group stays the directory's where that hands its
    /// group down (set-group-id).
    pub(super) fn give(
        &self,
        fd: BorrowedFd<'_>,
        caller: Caller,
        inherits_group: bool,
    ) -> Result<(), Errno> {
        self.change(fd.as_fd(), Some(caller.uid), (!inherits_group).then_some(caller.gid))
    }
}

fn in_guest(owner: u32, own: u32, guest: u32, privileged: bool) -> u32 {
    match owner {
        _ if owner == own => guest,
        _ if privileged => owner,
        _ => NOBODY,
    }
}

/// From /proc, because umask(2) can only tell by changing it for every thread.
fn process_umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    // Unknown: assume that anything may be missing, so that modes are set again.
    field.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Owners =
        Owners { guest: (0, 0), host: (1000, 100), privileged: false, umask: 0o022 };
    const ROOT: Owners =
        Owners { guest: (1000, 1000), host: (0, 0), privileged: true, umask: 0o022 };

    #[test]
    fn an_ordinary_user_is_guest_root_and_everybody_else_nobody() {
        assert_eq!((USER.uid_in_guest(1000), USER.gid_in_guest(100)), (0, 0));
        assert_eq!((USER.uid_in_guest(0), USER.gid_in_guest(0)), (NOBODY, NOBODY));
        assert_eq!(USER.on_host(0, 0, 1000), Ok(1000));
        assert_eq!(USER.on_host(33, 0, 1000), Err(Errno::EPERM));
        assert!(!USER.gives_away(Caller { uid: 33, gid: 33, pid: 1 }));
    }

    #[test]
    fn a_privileged_process_keeps_numbers_as_they_are() {
        assert_eq!((ROOT.uid_in_guest(0), ROOT.uid_in_guest(33)), (1000, 33));
        assert_eq!(ROOT.on_host(33, 1000, 0), Ok(33));
        assert!(ROOT.gives_away(Caller { uid: 33, gid: 33, pid: 1 }));
        assert!(!ROOT.gives_away(Caller { uid: 1000, gid: 1000, pid: 1 }));
    }

    #[test]
    fn the_number_that_means_nobody_at_all_is_refused() {
        assert_eq!(ROOT.on_host(u32::MAX, 0, 0), Err(Errno::EINVAL));
    }
}
