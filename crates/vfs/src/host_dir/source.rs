//! What can be the source of a host directory, and what cannot.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::options::HostDirError;

/// One of them inside the other would let the guest reach what is hidden by another name.
pub(super) fn refuse_nested(source: &Path, storage: &Path) -> Result<(), HostDirError> {
    let (Ok(outer), Ok(inner)) = (source.canonicalize(), storage.canonicalize()) else {
        // A storage that does not exist yet is looked at where it will be made.
        return match storage.parent() {
            Some(parent) if !storage.exists() && parent != storage => {
                refuse_inside(source, parent, storage)
            }
            _ => Ok(()),
        };
    };
    if outer.starts_with(&inner) || inner.starts_with(&outer) {
        return Err(nested(source, storage));
    }
    Ok(())
}

fn refuse_inside(source: &Path, parent: &Path, storage: &Path) -> Result<(), HostDirError> {
    match (source.canonicalize(), parent.canonicalize()) {
        (Ok(source_path), Ok(parent)) if parent.starts_with(&source_path) => {
            Err(nested(source, storage))
        }
        _ => Ok(()),
    }
}

fn nested(source: &Path, storage: &Path) -> HostDirError {
    HostDirError::Nested { storage: storage.to_path_buf(), source_path: source.to_path_buf() }
}

/// Filesystems whose files are doors into the kernel or into this process.
pub(super) fn refuse_special(
    fd: BorrowedFd<'_>,
) -> Result<(), Result<&'static str, rustix::io::Errno>> {
    // include/uapi/linux/magic.h
    const SPECIAL: &[(i64, &str)] = &[
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x6462_6720, "debugfs"),
        (0x7472_6163, "tracefs"),
        (0x0027_e0eb, "cgroup"),
        (0x6367_7270, "cgroup2"),
        (0x1cd1, "devpts"),
        (0xcafe_4a11, "bpf"),
        (0x7363_6673, "securityfs"),
        (0xf97c_ff8c, "selinux"),
        (0x6265_6570, "configfs"),
        (0xde5e_81e4, "efivarfs"),
    ];
    let found = rustix::fs::fstatfs(fd).map_err(Err)?.f_type;
    match SPECIAL.iter().find(|(magic, _)| *magic == found) {
        Some((_, name)) => Err(Ok(name)),
        None => Ok(()),
    }
}

/// Whether any call may wait for another machine or program.
pub(super) fn is_remote(magic: i64) -> bool {
    // nfs, smb, cifs, smb2, 9p, ceph, fuse, afs, coda
    [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x6573_5546, 0x5346_414f]
        .contains(&magic)
}
