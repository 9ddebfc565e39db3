//! Numbers of the FUSE protocol, from `include/uapi/linux/fuse.h` of Linux (version 7.38).
//!
//! Only numbers: the structures are read and written field by field in `request` and `reply`.

#![allow(missing_docs, reason = "the names are those of linux/fuse.h")]

pub(super) const KERNEL_VERSION: u32 = 7;
pub(super) const KERNEL_MINOR_VERSION: u32 = 38;
/// The oldest minor version served: structures have had their present sizes since 7.23, and
/// 7.28 brought `FUSE_MAX_PAGES` (Linux 4.20).
pub(super) const OLDEST_MINOR_VERSION: u32 = 28;

pub(super) const IN_HEADER_SIZE: usize = 40;
pub(super) const OUT_HEADER_SIZE: usize = 16;
pub(super) const ATTR_SIZE: usize = 88;
pub(super) const ENTRY_OUT_SIZE: usize = 40 + ATTR_SIZE;
pub(super) const ATTR_OUT_SIZE: usize = 16 + ATTR_SIZE;
pub(super) const OPEN_OUT_SIZE: usize = 16;
pub(super) const WRITE_OUT_SIZE: usize = 8;
pub(super) const STATFS_OUT_SIZE: usize = 80;
pub(super) const XATTR_OUT_SIZE: usize = 8;
pub(super) const LOCK_OUT_SIZE: usize = 24;
pub(super) const LSEEK_OUT_SIZE: usize = 8;
pub(super) const INIT_OUT_SIZE: usize = 64;
pub(super) const DIRENT_SIZE: usize = 24;

macro_rules! opcodes {
    ($($name:ident = $number:literal),* $(,)?) => {
        /// What a request asks for, by its number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Opcode { $($name = $number),* }

        impl Opcode {
            pub(super) fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// For events and logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// Every opcode this server knows the meaning of.
            pub const ALL: &[Opcode] = &[$(Self::$name),*];
        }
    };
}

opcodes! {
    Lookup = 1, Forget = 2, GetAttr = 3, SetAttr = 4, ReadLink = 5, Symlink = 6, MkNod = 8,
    MkDir = 9, Unlink = 10, RmDir = 11, Rename = 12, Link = 13, Open = 14, Read = 15, Write = 16,
    StatFs = 17, Release = 18, Fsync = 20, SetXattr = 21, GetXattr = 22, ListXattr = 23,
    RemoveXattr = 24, Flush = 25, Init = 26, OpenDir = 27, ReadDir = 28, ReleaseDir = 29,
    FsyncDir = 30, GetLk = 31, SetLk = 32, SetLkW = 33, Access = 34, Create = 35, Interrupt = 36,
    BMap = 37, Destroy = 38, Ioctl = 39, Poll = 40, NotifyReply = 41, BatchForget = 42,
    FAllocate = 43, ReadDirPlus = 44, Rename2 = 45, LSeek = 46, CopyFileRange = 47,
    SetupMapping = 48, RemoveMapping = 49, SyncFs = 50, TmpFile = 51, StatX = 52,
}

/// FUSE_INIT flags.
pub(super) mod init {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    pub(crate) const POSIX_LOCKS: u64 = 1 << 1;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const FLOCK_LOCKS: u64 = 1 << 10;
    pub(crate) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const ASYNC_DIO: u64 = 1 << 15;
    pub(crate) const WRITEBACK_CACHE: u64 = 1 << 16;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const ABORT_ERROR: u64 = 1 << 21;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
}

/// `fuse_setattr_in.valid`.
pub(super) mod fattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const FH: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 11;
}

pub(super) const GETATTR_FH: u32 = 1 << 0;
pub(super) const OPEN_KILL_SUIDGID: u32 = 1 << 0;
pub(super) const WRITE_CACHE: u32 = 1 << 0;
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
pub(super) const FSYNC_FDATASYNC: u32 = 1 << 0;
pub(super) const LK_FLOCK: u32 = 1 << 0;

/// `fuse_open_out.open_flags`.
pub(super) mod fopen {
    pub(crate) const DIRECT_IO: u32 = 1 << 0;
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
}

/// Linux open(2) flags, as the guest sends them (the same on x86-64 and most others; `O_DIRECT`,
/// `O_DIRECTORY` and `O_NOFOLLOW` differ on arm64 and are not looked at).
pub(super) mod open {
    pub(crate) const ACCESS_MODE: u32 = 0o3;
    pub(crate) const WRITE_ONLY: u32 = 0o1;
    pub(crate) const READ_WRITE: u32 = 0o2;
    pub(crate) const EXCLUSIVE: u32 = 0o200;
    pub(crate) const TRUNCATE: u32 = 0o1000;
    pub(crate) const APPEND: u32 = 0o2000;
    pub(crate) const DSYNC: u32 = 0o10000;
    pub(crate) const SYNC: u32 = 0o4_010_000;
}
