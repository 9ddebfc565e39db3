//! From bytes to a typed request that cannot be wrong afterwards.
//!
//! Refuses: lengths that disagree, names that could leave a directory, missing or additional
//! bytes, numbers outside their range. Nothing behind this module looks at request bytes again.
//! To read beside it: `include/uapi/linux/fuse.h`.

use super::abi::{self, Opcode};
use super::arguments;
use super::cursor::Cursor;
use crate::{
    AllocateMode, Caller, Changes, Errno, Handle, Inode, Lock, Name, OpenFlags, Place, Readable,
    RenameMode, Seek, Target, WriteFlags,
};

/// The most that a request without file data may carry: an extended attribute of 64 KiB with its
/// name (`XATTR_SIZE_MAX`, `XATTR_NAME_MAX`) and the fixed fields.
const ARGUMENTS_MAX: usize = 65_536 + 256 + 64;
/// BATCH_FORGET is as long as the guest's largest request.
const BATCH_MAX: usize = super::MAX_REQUEST;

/// The fields every request begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// As the guest says; compared with what came.
    pub length: u32,
    /// A number; what it means is looked up later, so that an unknown one can be answered.
    pub opcode: u32,
    /// The guest's name for this request.
    pub unique: u64,
    /// The node it is about.
    pub inode: Inode,
    /// Who asks.
    pub caller: Caller,
}

impl Header {
    /// `None` when there are not even enough bytes for a header: such a request has no name and
    /// cannot be answered.
    pub fn take(bytes: &mut Readable) -> Option<Self> {
        let bytes = bytes.take::<{ abi::IN_HEADER_SIZE }>()?;
        let mut cursor = Cursor::new(&bytes);
        let mut fields = || -> Result<Self, Errno> {
            Ok(Self {
                length: cursor.u32()?,
                opcode: cursor.u32()?,
                unique: cursor.u64()?,
                inode: Inode(cursor.u64()?),
                caller: Caller { uid: cursor.u32()?, gid: cursor.u32()?, pid: cursor.u32()? },
            })
        };
        fields().ok()
    }
}

/// What FUSE_INIT offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Protocol version.
    pub major: u32,
    /// Protocol version.
    pub minor: u32,
    /// In bytes.
    pub max_readahead: u32,
    /// All 64 of them.
    pub flags: u64,
}

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of the system calls of the same names")]
pub enum Operation {
    Lookup {
        name: Name,
    },
    Forget {
        count: u64,
    },
    BatchForget {
        nodes: Vec<(Inode, u64)>,
    },
    GetAttr {
        handle: Option<Handle>,
    },
    SetAttr {
        handle: Option<Handle>,
        changes: Changes,
    },
    ReadLink,
    Symlink {
        name: Name,
        target: Target,
    },
    MkNod {
        name: Name,
        mode: u32,
        device: u32,
    },
    MkDir {
        name: Name,
        permissions: u32,
    },
    Unlink {
        name: Name,
    },
    RmDir {
        name: Name,
    },
    Rename {
        name: Name,
        to: Inode,
        new_name: Name,
        mode: RenameMode,
    },
    Link {
        from: Inode,
        name: Name,
    },
    Open {
        flags: OpenFlags,
    },
    /// The data is what remains of the request.
    Write {
        handle: Handle,
        offset: u64,
        size: u32,
        flags: WriteFlags,
    },
    Read {
        handle: Handle,
        offset: u64,
        size: u32,
    },
    StatFs,
    Release {
        handle: Handle,
    },
    Flush {
        handle: Handle,
        owner: u64,
    },
    Fsync {
        handle: Handle,
        data_only: bool,
    },
    SetXattr {
        name: Name,
        value: Vec<u8>,
        flags: u32,
    },
    GetXattr {
        name: Name,
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: Name,
    },
    Init {
        offer: Offer,
    },
    OpenDir,
    ReadDir {
        handle: Handle,
        offset: u64,
        size: u32,
        plus: bool,
    },
    ReleaseDir {
        handle: Handle,
    },
    FsyncDir {
        handle: Handle,
        data_only: bool,
    },
    GetLock {
        handle: Handle,
        lock: Lock,
    },
    SetLock {
        handle: Handle,
        lock: Lock,
        wait: bool,
    },
    Create {
        name: Name,
        permissions: u32,
        flags: OpenFlags,
    },
    TmpFile {
        permissions: u32,
        flags: OpenFlags,
    },
    Interrupt {
        unique: u64,
    },
    Destroy,
    Allocate {
        handle: Handle,
        offset: u64,
        length: u64,
        mode: AllocateMode,
    },
    LSeek {
        handle: Handle,
        seek: Seek,
    },
    CopyRange {
        from: Place,
        to: Place,
        length: u64,
    },
    SyncFs,
    /// An opcode that is known and answered with this error: ioctl, poll, access, DAX windows.
    Refused {
        errno: Errno,
    },
}

impl Operation {
    /// Reads the arguments that follow `header`. For a write the data stays in `bytes`.
    pub fn take(header: &Header, bytes: &mut Readable) -> Result<Self, Errno> {
        let total = bytes.remaining() + abi::IN_HEADER_SIZE;
        if usize::try_from(header.length) != Ok(total) {
            return Err(Errno::EINVAL);
        }
        let opcode = Opcode::from_number(header.opcode).ok_or(Errno::ENOSYS)?;
        match opcode {
            Opcode::Write => arguments::write(bytes),
            Opcode::BatchForget => arguments::batch_forget(&bytes.take_vec(BATCH_MAX)),
            _ if bytes.remaining() > ARGUMENTS_MAX => Err(Errno::EINVAL),
            _ => {
                let arguments = bytes.take_vec(ARGUMENTS_MAX);
                let mut cursor = Cursor::new(&arguments);
                let operation = arguments::parse(opcode, header, &mut cursor)?;
                cursor.end()?;
                Ok(operation)
            }
        }
    }

    /// Whether it changes the filesystem: what a read-only mount refuses.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::Open { flags } => flags.write || flags.truncate,
            Self::SetAttr { .. }
            | Self::Symlink { .. }
            | Self::MkNod { .. }
            | Self::MkDir { .. }
            | Self::Unlink { .. }
            | Self::RmDir { .. }
            | Self::Rename { .. }
            | Self::Link { .. }
            | Self::Write { .. }
            | Self::SetXattr { .. }
            | Self::RemoveXattr { .. }
            | Self::Create { .. }
            | Self::TmpFile { .. }
            | Self::Allocate { .. }
            | Self::CopyRange { .. } => true,
            _ => false,
        }
    }
}
