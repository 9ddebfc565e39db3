//! Namespaces of our own, where the host lets us have them.
//!
//! Whether it does is tried in a copy of the process first: where a security module lets a user
//! namespace be made and then not be used (AppArmor on Ubuntu), there is no way back.
//!
//! Mounts of the host go on to arrive (slave), so that what the host unmounts does not stay busy
//! here; nothing goes the other way.

use std::fs;
use std::io::{Read, Write, pipe};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid, getpid};

use crate::error::{Error, system};
use crate::sys;

/// Whose numbers mean something inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// This user's alone.
    Own,
    /// All that mean something outside: for root, who serves files of others.
    All,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Namespaces {
    /// Their names.
    pub(crate) own: Vec<&'static str>,
    /// Why there is none.
    pub(crate) problem: Option<String>,
}

const NONE: u8 = 1;

/// Enters new namespaces. There must be no other thread.
pub(crate) fn enter(users: Users, network: bool) -> Result<Namespaces, Error> {
    let mut flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let mut own = vec!["user", "mount", "ipc", "uts"];
    if !network {
        flags |= CloneFlags::CLONE_NEWNET;
        own.push("network");
    }
    let tried = sys::beside(
        || match become_inhabitant(flags, users) {
            Ok(()) => 0,
            Err(error) => {
                error.raw_os_error().and_then(|errno| errno.try_into().ok()).unwrap_or(NONE)
            }
        },
        || (),
    );
    match tried.map_err(system("try namespaces"))? {
        ((), Some(0)) => {
            become_inhabitant(flags, users).map_err(system("enter namespaces"))?;
            Ok(Namespaces { own, problem: None })
        }
        ((), code) => {
            let errno = nix::errno::Errno::from_raw(code.unwrap_or(NONE).into());
            Ok(Namespaces { own: Vec::new(), problem: Some(format!("{errno:?}")) })
        }
    }
}

fn become_inhabitant(flags: CloneFlags, users: Users) -> std::io::Result<()> {
    match users {
        Users::Own => {
            let (user, group) = (geteuid(), getegid());
            unshare(flags)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
            fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        }
        Users::All => {
            let maps = [("uid_map", same("uid_map")?), ("gid_map", same("gid_map")?)];
            let process = getpid();
            let (mut wait, mut go) = pipe()?;
            // Only somebody outside may say who is who inside.
            let ((unshared, _go), written) = sys::beside(
                || {
                    let mut byte = [0];
                    let told = wait.read_exact(&mut byte).is_ok();
                    let write = |(name, map): &(&str, String)| {
                        fs::write(format!("/proc/{process}/{name}"), map).is_ok()
                    };
                    u8::from(!(told && maps.iter().all(write)))
                },
                move || {
                    let unshared = unshare(flags).map_err(std::io::Error::from);
                    let told = unshared.and_then(|()| go.write_all(&[1]));
                    (told, ())
                },
            )?;
            unshared?;
            if written != Some(0) {
                return Err(std::io::Error::from_raw_os_error(nix::libc::EPERM));
            }
        }
    }
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    Ok(())
}

/// Every number that means something here means itself.
fn same(map: &str) -> std::io::Result<String> {
    let text = fs::read_to_string(format!("/proc/self/{map}"))?;
    let line = |line: &str| {
        let mut numbers = line.split_whitespace();
        let (inside, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    Ok(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_may_not_leave_its_namespaces_does_not_wait_for_ever() {
        // A test is the second thread of its process, to which no user namespace is given.
        match enter(Users::All, false) {
            Err(_) => {}
            Ok(namespaces) => assert!(namespaces.problem.is_some(), "{namespaces:?}"),
        }
    }
}
