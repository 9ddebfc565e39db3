//! Mount points, with the flags that Debian's systemd gives them. Read mount(2).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::mount::{MsFlags, mount as mount_2};

use super::step::{Failure, While};

/// A filesystem of the kernel's own and where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mount {
    /// What /proc/mounts shows as the device.
    pub(crate) source: &'static str,
    /// Absolute path.
    pub(crate) target: &'static str,
    /// Filesystem type.
    pub(crate) kind: &'static str,
    flags: MsFlags,
    options: &'static str,
}

const NO_SUID_DEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NO_SUID_DEV_EXEC: MsFlags = NO_SUID_DEV.union(MsFlags::MS_NOEXEC);

impl Mount {
    const fn new(
        source: &'static str,
        target: &'static str,
        kind: &'static str,
        flags: MsFlags,
        options: &'static str,
    ) -> Self {
        Self { source, target, kind, flags, options }
    }

    pub(crate) const DEV: Self =
        Self::new("udev", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=755");
    pub(crate) const PROC: Self = Self::new("proc", "/proc", "proc", NO_SUID_DEV_EXEC, "");
    pub(crate) const SYS: Self = Self::new("sysfs", "/sys", "sysfs", NO_SUID_DEV_EXEC, "");
    pub(crate) const PTS: Self = Self::new(
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        "gid=5,mode=620,ptmxmode=666",
    );
    pub(crate) const SHM: Self = Self::new("tmpfs", "/dev/shm", "tmpfs", NO_SUID_DEV, "mode=1777");
    pub(crate) const MQUEUE: Self =
        Self::new("mqueue", "/dev/mqueue", "mqueue", NO_SUID_DEV_EXEC, "");
    pub(crate) const CGROUP: Self = Self::new(
        "cgroup2",
        "/sys/fs/cgroup",
        "cgroup2",
        NO_SUID_DEV_EXEC,
        "nsdelegate,memory_recursiveprot",
    );
    pub(crate) const TMP: Self = Self::new("tmpfs", "/tmp", "tmpfs", NO_SUID_DEV, "mode=1777");
    pub(crate) const RUN: Self = Self::new("tmpfs", "/run", "tmpfs", NO_SUID_DEV, "mode=755");
    pub(crate) const MNT: Self = Self::new("tmpfs", "/mnt", "tmpfs", NO_SUID_DEV, "mode=755");
}

/// Mounts it on its target, which must be there.
pub(crate) fn mount(mount: &Mount) -> Result<(), Failure> {
    mount_2(
        Some(mount.source),
        mount.target,
        Some(mount.kind),
        mount.flags,
        Some(mount.options).filter(|options| !options.is_empty()),
    )
    .during(|| format!("Mounting {} on {}", mount.kind, mount.target))
}

/// Moves a mount.
pub(crate) fn move_to(from: &str, to: &str) -> Result<(), Failure> {
    mount_2(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .during(|| format!("Moving {from} to {to}"))
}

/// Shows a file or folder in a second place.
pub(crate) fn bind(from: &str, to: &str) -> Result<(), Failure> {
    mount_2(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .during(|| format!("Binding {from} to {to}"))
}

/// Makes a directory with mode 0755; one that is there is fine.
pub(crate) fn make_directory(path: &str) -> Result<(), Failure> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.during(|| format!("Making {path}")),
    }
}

/// A mount point of the root filesystem: made on a writable root, required on a read-only one.
pub(crate) fn require_directory(path: &str, read_only: bool) -> Result<(), Failure> {
    if !read_only {
        return make_directory(path);
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(Failure::new(format!("{path} is not a directory"))),
        other => other.map(drop).during(|| {
            format!("The root filesystem is read-only and must have the directory {path}")
        }),
    }
}

/// Makes a symbolic link in place of whatever file is there.
pub(crate) fn link(target: &str, path: &str) -> Result<(), Failure> {
    match fs::remove_file(Path::new(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::os::unix::fs::symlink(target, path),
    }
    .during(|| format!("Linking {path} to {target}"))
}
