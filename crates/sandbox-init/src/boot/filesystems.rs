//! The step `mounts`: filesystems of the host, parents before what is in them.
//!
//! A target's directories are made where that is possible: on tmpfs, in an earlier mount, on a
//! writable root. Nothing on the way is followed: a symlink is a failure, as is a file.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};

use super::settings::Served;
use super::step::{Failure, While};
use crate::filesystems::{Filesystem, Filesystems};

/// Mounts all of them.
pub(crate) fn mount_all(served: &[Served], filesystems: &Filesystems) -> Result<(), Failure> {
    served.iter().try_for_each(|served| mount_one(served, filesystems))
}

fn mount_one(served: &Served, filesystems: &Filesystems) -> Result<(), Failure> {
    let Served { tag, target, .. } = served;
    let directory = make_target(target)?;
    let what = || format!("Mounting {tag} on {target}");
    let private = Filesystem::mount(tag, target)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
        .during(what)?;
    filesystems.add(private);
    let mut flags = MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_NOSUID, !served.set_id);
    flags.set(MsFlags::MS_RDONLY, served.read_only);
    let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
    mount(Some(tag.as_str()), place.as_str(), Some("virtiofs"), flags, None::<&str>).during(what)
}

/// The directory at `target`, made with all above it where it is not there.
pub(crate) fn make_target(target: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = open("/", flags, Mode::empty()).during(|| "Opening /".into())?;
    let mut path = String::new();
    for name in target.split('/').filter(|name| !name.is_empty()) {
        path = format!("{path}/{name}");
        at = match openat(&at, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                let made = mkdirat(&at, name, Mode::from_bits_truncate(0o755));
                made.during(|| {
                    format!("Mount target {target}: {path} is not there and cannot be made")
                })?;
                openat(&at, name, flags, Mode::empty())
            }
            opened => opened,
        }
        .during(|| match kind(&at, name) {
            Some(SFlag::S_IFLNK) => {
                format!("Mount target {target}: {path} is a symlink, which is not followed")
            }
            _ => format!("Mount target {target}: {path}"),
        })?;
    }
    Ok(at)
}

fn kind(at: &OwnedFd, name: &str) -> Option<SFlag> {
    let found = fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
    Some(SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn errno(target: &str) -> (Option<Errno>, String) {
        let failure = make_target(target).expect_err(target);
        (failure.errno(), failure.to_string())
    }

    #[test]
    fn missing_directories_are_made_and_those_there_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a/b/c");
        make_target(target.to_str().unwrap()).unwrap();
        fs::write(target.join("kept"), "").unwrap();
        make_target(target.to_str().unwrap()).unwrap();
        assert!(target.join("kept").exists());
    }

    #[test]
    fn files_and_symlinks_are_failures_with_path_and_errno() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("file"), "").unwrap();
        fs::create_dir(path("real")).unwrap();
        symlink("real", path("link")).unwrap();
        for (target, named) in
            [("file", "file"), ("file/x", "file"), ("link", "link"), ("link/x", "link")]
        {
            let (errno, text) = errno(&path(target));
            assert_eq!(errno, Some(Errno::ENOTDIR), "{text}");
            assert!(text.contains(&path(target)) && text.contains(&path(named)), "{text}");
        }
        assert!(errno(&path("link")).1.contains("symlink"));
        assert_eq!(fs::read_dir(path("real")).unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let (errno, text) = errno("/proc/no/such");
        assert!(errno.is_some());
        assert!(text.contains("/proc/no/such") && text.contains("/proc/no "), "{text}");
    }
}
