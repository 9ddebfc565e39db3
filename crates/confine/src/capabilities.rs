//! Capabilities: none, but those that root needs for the files it was granted.
//!
//! An ordinary user has none to lose outside of a user namespace. Root without them is an ordinary
//! user to most of the kernel, but could then not serve the files of others: which of the file
//! capabilities are kept is decided by trying the grants without any.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat, geteuid};

use crate::error::Error;
use crate::grant::{Access, Grant};

/// To pass through and read what belongs to others.
const TO_READ: &[Capability] = &[Capability::CAP_DAC_READ_SEARCH];
/// To change files of others.
const TO_CHANGE: &[Capability] = &[Capability::CAP_DAC_READ_SEARCH, Capability::CAP_DAC_OVERRIDE];
/// To be root of a directory: also to give files away, and to change what is another's.
const TO_OWN: &[Capability] = &[
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
];

/// What must be kept for these grants.
pub(crate) fn needed(grants: &[Grant]) -> Result<CapsHashSet, Error> {
    let mut needed = HashSet::new();
    if !geteuid().is_root() {
        return Ok(needed);
    }
    let before = read(CapSet::Effective)?;
    write(CapSet::Effective, &HashSet::new())?;
    for grant in grants {
        needed.extend(for_one(grant));
    }
    write(CapSet::Effective, &before)?;
    Ok(needed)
}

fn for_one(grant: &Grant) -> &'static [Capability] {
    let directory = grant.path.is_dir() || !reachable(&grant.path);
    match grant.access {
        Access::Write if directory => TO_OWN,
        // What is in a directory may be anybody's.
        Access::Read if directory => TO_READ,
        Access::Read | Access::Engine if denied(&grant.path, AccessFlags::R_OK) => TO_READ,
        Access::Write | Access::Create
            if denied(&grant.path, AccessFlags::R_OK | AccessFlags::W_OK) =>
        {
            TO_CHANGE
        }
        Access::Create | Access::Socket => {
            let folder = grant.path.parent().unwrap_or_else(|| Path::new("/"));
            let change = AccessFlags::W_OK | AccessFlags::X_OK;
            if denied(folder, change) { TO_CHANGE } else { &[] }
        }
        _ => &[],
    }
}

fn reachable(path: &Path) -> bool {
    !denied(path, AccessFlags::F_OK)
}

/// Whether permissions are what is in the way.
fn denied(path: &Path, how: AccessFlags) -> bool {
    let result = faccessat(AT_FDCWD, path, how, AtFlags::AT_EACCESS);
    result == Err(nix::errno::Errno::EACCES)
}

/// Drops all others, from every set, for good. Whether that includes the bounding set: an ordinary
/// user outside of a user namespace may not, and cannot gain any either.
pub(crate) fn keep(kept: &CapsHashSet) -> Result<(), Error> {
    write(CapSet::Ambient, &HashSet::new())?;
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        for capability in read(CapSet::Bounding)?.difference(kept) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(Error::Capabilities)?;
        }
    }
    let permitted = read(CapSet::Permitted)?;
    let kept: CapsHashSet = permitted.intersection(kept).copied().collect();
    write(CapSet::Inheritable, &HashSet::new())?;
    write(CapSet::Effective, &kept)?;
    write(CapSet::Permitted, &kept)
}

/// Drops those of this thread.
pub(crate) fn drop_all() -> Result<(), Error> {
    if read(CapSet::Permitted)?.is_empty() {
        return Ok(());
    }
    write(CapSet::Effective, &HashSet::new())?;
    write(CapSet::Permitted, &HashSet::new())
}

/// Their names, sorted, without the prefix.
pub(crate) fn names(kept: &CapsHashSet) -> Vec<String> {
    let short = |one: &Capability| one.to_string().trim_start_matches("CAP_").to_lowercase();
    let mut names: Vec<String> = kept.iter().map(short).collect();
    names.sort();
    names
}

fn read(set: CapSet) -> Result<CapsHashSet, Error> {
    caps::read(None, set).map_err(Error::Capabilities)
}

fn write(set: CapSet, to: &CapsHashSet) -> Result<(), Error> {
    match set {
        // A kernel without it has none.
        CapSet::Ambient => match caps::clear(None, set) {
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(nix::libc::EINVAL) => {
                Ok(())
            }
            done => done.map_err(Error::Capabilities),
        },
        _ => caps::set(None, set, to).map_err(Error::Capabilities),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_keeps_for_a_writable_directory_what_its_files_need_and_no_more() {
        if !geteuid().is_root() {
            println!("skipped: it is about root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let names_for =
            |access, path: &Path| names(&needed(&[Grant::new(access, path)]).unwrap()).join(" ");
        let own = "chown dac_override dac_read_search fowner fsetid";
        assert_eq!(names_for(Access::Write, folder.path()), own);
        assert_eq!(names_for(Access::Read, folder.path()), "dac_read_search");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for access in [Access::Read, Access::Engine, Access::Write, Access::Create] {
            assert_eq!(names_for(access, &file), "", "{access:?}");
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(folder.path(), private).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(1000), Some(1000)).unwrap();
        assert_eq!(names_for(Access::Engine, &file), "dac_read_search");
        assert_eq!(names_for(Access::Create, &file), "dac_override dac_read_search");
    }
}
