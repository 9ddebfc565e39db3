//! What callbacks answer.

use crate::{Kind, Time};

/// Which optional callbacks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features(u32);

#[allow(missing_docs, reason = "the names are those of the callbacks")]
impl Features {
    /// None: the filesystem is read-only.
    pub const NONE: Features = Features(0);
    /// `create_file`, `write` and `truncate`; without them the mount is read-only.
    pub const WRITABLE: Features = Features(1 << 0);
    pub const MKDIR: Features = Features(1 << 1);
    pub const UNLINK: Features = Features(1 << 2);
    pub const RMDIR: Features = Features(1 << 3);
    pub const RENAME: Features = Features(1 << 4);
    /// `rename` heeds its mode.
    pub const RENAME_FLAGS: Features = Features(1 << 5);
    pub const LINK: Features = Features(1 << 6);
    pub const SYMLINK: Features = Features(1 << 7);
    pub const READLINK: Features = Features(1 << 8);
    pub const CHMOD: Features = Features(1 << 9);
    pub const CHOWN: Features = Features(1 << 10);
    pub const UTIMES: Features = Features(1 << 11);
    pub const SETXATTR: Features = Features(1 << 12);
    pub const GETXATTR: Features = Features(1 << 13);
    pub const LISTXATTR: Features = Features(1 << 14);
    pub const REMOVEXATTR: Features = Features(1 << 15);
    pub const FSYNC: Features = Features(1 << 16);
    pub const STATFS: Features = Features(1 << 17);
    /// `create_file` makes FIFOs and sockets too.
    pub const NODES: Features = Features(1 << 18);
    pub const ALL: Features = Features((1 << 19) - 1);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }

    /// The first without the second.
    #[must_use]
    pub const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

    /// Whether all of `other` are there.
    #[must_use]
    pub const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a file is; what is left out gets a value that stays put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of stat(2)")]
pub struct FileStat {
    pub kind: Kind,
    /// Of a file without one, reads go past the guest's cache, as for /proc.
    pub size: Option<u64>,
    /// Bytes that the content takes; without it, as many as its size.
    pub allocated: Option<u64>,
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// At least 2, together with `ino`, makes two paths one file.
    pub nlink: Option<u32>,
    pub ino: Option<u64>,
    pub modified: Option<Time>,
    pub accessed: Option<Time>,
    pub changed: Option<Time>,
}

impl FileStat {
    /// Only the kind is known.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            size: None,
            allocated: None,
            permissions: None,
            uid: None,
            gid: None,
            nlink: None,
            ino: None,
            modified: None,
            accessed: None,
            changed: None,
        }
    }

    /// Enough to answer a stat without asking again.
    pub(super) fn is_complete(&self) -> bool {
        let sized = self.size.is_some() || self.kind == Kind::Directory;
        sized && self.permissions.is_some() && self.modified.is_some()
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Checked by the adapter.
    pub name: Vec<u8>,
    /// What is known of it.
    pub stat: FileStat,
}
