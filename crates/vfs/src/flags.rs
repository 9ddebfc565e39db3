//! The small types of open, rename, lock and seek requests.

use crate::{Errno, Handle};

/// How a file is to be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one bit of open(2)")]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Cut to nothing on the way.
    pub truncate: bool,
    /// With create: the name must be new.
    pub exclusive: bool,
    /// `O_SYNC`, or `O_DSYNC` alone: every write is durable when answered.
    pub sync: bool,
    /// Only the data, not the times.
    pub data_sync: bool,
    /// Clear set-id bits when truncating.
    pub drop_set_id: bool,
}

/// What an open answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// To be released exactly once.
    pub handle: Handle,
    /// Reads and writes go past the guest's page cache: for files whose size is not known.
    pub direct: bool,
    /// What the guest has cached of it is still right.
    pub keep_cache: bool,
}

/// How a write comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// The descriptor has `O_APPEND`: the data goes to the end, wherever that is by now.
    pub append: bool,
    /// Pages written back by the guest's kernel, at exactly this offset.
    pub write_back: bool,
    /// Clear set-id bits.
    pub drop_set_id: bool,
}

/// How a rename treats an existing target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced, atomically.
    #[default]
    Replace,
    /// It must not exist (`RENAME_NOREPLACE`).
    NoReplace,
    /// Both names change places (`RENAME_EXCHANGE`).
    Exchange,
}

impl RenameMode {
    /// From the flags of renameat2(2): `EINVAL` for a combination, `RENAME_WHITEOUT` or unknown.
    pub fn from_bits(bits: u32) -> Result<Self, Errno> {
        match bits {
            0 => Ok(Self::Replace),
            1 => Ok(Self::NoReplace),
            2 => Ok(Self::Exchange),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Which of the two kinds of lock, which never see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockFamily {
    /// fcntl(2): of a range, belonging to `owner`.
    Posix,
    /// flock(2): of the whole file, belonging to the open file.
    Flock,
}

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum LockKind {
    Shared,
    Exclusive,
    Unlock,
}

/// One lock, or the wish for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Which of the two.
    pub family: LockFamily,
    /// What.
    pub kind: LockKind,
    /// Opaque: whose it is. Two processes of the guest have different ones.
    pub owner: u64,
    /// First byte, at most `end` and `i64::MAX`.
    pub start: u64,
    /// Last byte; `i64::MAX` means to the end of the file however long.
    pub end: u64,
    /// Process in the guest, only for telling.
    pub pid: u32,
}

/// Where lseek looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next data at or after an offset.
    Data(u64),
    /// The next hole at or after an offset; the end of the file is one.
    Hole(u64),
}

/// What fallocate does; the numbers are those of fallocate(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocateMode(u32);

impl AllocateMode {
    const KEEP_SIZE: u32 = 0x01;
    const PUNCH_HOLE: u32 = 0x02;
    const ZERO_RANGE: u32 = 0x10;

    /// `EOPNOTSUPP` for modes that no guest kernel sends to FUSE.
    pub fn from_bits(bits: u32) -> Result<Self, Errno> {
        let known = Self::KEEP_SIZE | Self::PUNCH_HOLE | Self::ZERO_RANGE;
        let both = Self::PUNCH_HOLE | Self::ZERO_RANGE;
        let hole_grows = bits & Self::PUNCH_HOLE != 0 && bits & Self::KEEP_SIZE == 0;
        if bits & !known != 0 || bits & both == both || hole_grows {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Self(bits))
    }

    /// For the system call.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The file's size stays what it is.
    #[must_use]
    pub fn keeps_size(self) -> bool {
        self.0 & Self::KEEP_SIZE != 0
    }

    /// The range reads as zeroes afterwards.
    #[must_use]
    pub fn zeroes(self) -> bool {
        self.0 & (Self::PUNCH_HOLE | Self::ZERO_RANGE) != 0
    }
}

/// Who asks. The numbers are the guest's word: they decide ownership of what is made, never
/// whether the host permits something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Filesystem user id in the guest.
    pub uid: u32,
    /// Filesystem group id in the guest.
    pub gid: u32,
    /// Process id in the guest; 0 for work of its kernel.
    pub pid: u32,
}

/// Where one side of a copy between files lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub inode: crate::Inode,
    /// It, opened.
    pub handle: Handle,
    /// First byte.
    pub offset: u64,
}
