//! The arguments of each request: their fields, and the ranges they must lie in.

use super::abi::{self, Opcode, fattr, open};
use super::cursor::Cursor;
use super::request::{Header, Offer, Operation};
use crate::{
    AllocateMode, Changes, Errno, Handle, Inode, Lock, LockFamily, LockKind, OpenFlags, Place,
    Readable, RenameMode, Seek, SetTime, Target, Time, WriteFlags,
};

pub(super) fn parse(
    opcode: Opcode,
    header: &Header,
    c: &mut Cursor<'_>,
) -> Result<Operation, Errno> {
    Ok(match opcode {
        Opcode::Lookup => Operation::Lookup { name: c.name()? },
        Opcode::Forget => Operation::Forget { count: c.u64()? },
        Opcode::GetAttr => get_attr(c)?,
        Opcode::SetAttr => set_attr(c)?,
        Opcode::ReadLink => Operation::ReadLink,
        Opcode::Symlink => {
            Operation::Symlink { name: c.name()?, target: Target::new(c.string()?)? }
        }
        Opcode::MkNod => {
            let (mode, device) = (c.u32()?, c.u32()?);
            c.skip::<8>()?;
            Operation::MkNod { name: c.name()?, mode, device }
        }
        Opcode::MkDir => {
            let permissions = c.u32()? & 0o7777;
            c.skip::<4>()?;
            Operation::MkDir { name: c.name()?, permissions }
        }
        Opcode::Unlink => Operation::Unlink { name: c.name()? },
        Opcode::RmDir => Operation::RmDir { name: c.name()? },
        Opcode::Rename | Opcode::Rename2 => rename(opcode, c)?,
        Opcode::Link => Operation::Link { from: Inode(c.u64()?), name: c.name()? },
        Opcode::Open => {
            let (flags, fuse) = (c.u32()?, c.u32()?);
            Operation::Open { flags: open_flags(flags, fuse)? }
        }
        Opcode::Create | Opcode::TmpFile => create(opcode, c)?,
        Opcode::Read => read(c)?,
        Opcode::StatFs => Operation::StatFs,
        Opcode::Release => release(c)?,
        Opcode::Flush => {
            let handle = Handle(c.u64()?);
            c.skip::<8>()?;
            Operation::Flush { handle, owner: c.u64()? }
        }
        Opcode::Fsync | Opcode::FsyncDir => {
            let handle = Handle(c.u64()?);
            let data_only = c.u32()? & abi::FSYNC_FDATASYNC != 0;
            c.skip::<4>()?;
            match opcode {
                Opcode::Fsync => Operation::Fsync { handle, data_only },
                _ => Operation::FsyncDir { handle, data_only },
            }
        }
        Opcode::OpenDir => {
            c.skip::<8>()?;
            Operation::OpenDir
        }
        Opcode::ReadDir | Opcode::ReadDirPlus => {
            let (handle, offset, size) = (Handle(c.u64()?), c.u64()?, c.u32()?);
            c.skip::<20>()?;
            Operation::ReadDir { handle, offset, size, plus: opcode == Opcode::ReadDirPlus }
        }
        Opcode::ReleaseDir => {
            let handle = Handle(c.u64()?);
            c.skip::<16>()?;
            Operation::ReleaseDir { handle }
        }
        Opcode::GetLk | Opcode::SetLk | Opcode::SetLkW => lock(opcode, c)?,
        _ => parse_rare(opcode, header, c)?,
    })
}

fn parse_rare(opcode: Opcode, header: &Header, c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    Ok(match opcode {
        Opcode::SetXattr => set_xattr(c)?,
        Opcode::GetXattr => {
            let size = c.u32()?;
            c.skip::<4>()?;
            Operation::GetXattr { name: c.name()?, size }
        }
        Opcode::ListXattr => {
            let size = c.u32()?;
            c.skip::<4>()?;
            Operation::ListXattr { size }
        }
        Opcode::RemoveXattr => Operation::RemoveXattr { name: c.name()? },
        Opcode::Init => init(c)?,
        Opcode::Interrupt => Operation::Interrupt { unique: c.u64()? },
        Opcode::Destroy => Operation::Destroy,
        Opcode::FAllocate => {
            let (handle, offset, length) = (Handle(c.u64()?), c.u64()?, c.u64()?);
            let mode = AllocateMode::from_bits(c.u32()?)?;
            c.skip::<4>()?;
            checked_range(offset, length, Errno::EFBIG)?;
            if length == 0 {
                return Err(Errno::EINVAL);
            }
            Operation::Allocate { handle, offset, length, mode }
        }
        Opcode::LSeek => {
            let (handle, offset, whence) = (Handle(c.u64()?), c.u64()?, c.u32()?);
            c.skip::<4>()?;
            let seek = match whence {
                3 => Seek::Data(offset),
                4 => Seek::Hole(offset),
                _ => return Err(Errno::EINVAL),
            };
            checked_range(offset, 0, Errno::ENXIO)?;
            Operation::LSeek { handle, seek }
        }
        Opcode::CopyFileRange => copy_range(header, c)?,
        Opcode::SyncFs => {
            c.skip::<8>()?;
            Operation::SyncFs
        }
        // The guest's kernel checks permissions itself and never asks; ENOSYS keeps it so. No
        // file here has ioctls, is anything but always ready, or has blocks the guest may name.
        Opcode::Ioctl => refused(c, Errno::ENOTTY),
        Opcode::Access | Opcode::Poll | Opcode::BMap | Opcode::StatX => refused(c, Errno::ENOSYS),
        Opcode::SetupMapping | Opcode::RemoveMapping => refused(c, Errno::ENOSYS),
        _ => return Err(Errno::ENOSYS),
    })
}

fn refused(c: &mut Cursor<'_>, errno: Errno) -> Operation {
    c.rest();
    Operation::Refused { errno }
}

/// No offset of a file lies beyond `i64::MAX`.
fn checked_range(offset: u64, length: u64, errno: Errno) -> Result<(), Errno> {
    match offset.checked_add(length) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        _ => Err(errno),
    }
}

fn get_attr(c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let flags = c.u32()?;
    c.skip::<4>()?;
    let handle = Handle(c.u64()?);
    Ok(Operation::GetAttr { handle: (flags & abi::GETATTR_FH != 0).then_some(handle) })
}

fn set_attr(c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let valid = c.u32()?;
    c.skip::<4>()?;
    let handle = Handle(c.u64()?);
    let size = c.u64()?;
    c.skip::<8>()?;
    let (atime, mtime) = (c.u64()?, c.u64()?);
    c.skip::<8>()?;
    let (atime_nanos, mtime_nanos) = (c.u32()?, c.u32()?);
    c.skip::<4>()?;
    let mode = c.u32()?;
    c.skip::<4>()?;
    let (uid, gid) = (c.u32()?, c.u32()?);
    c.skip::<4>()?;
    let has = |bit: u32| valid & bit != 0;
    if has(fattr::SIZE) {
        checked_range(size, 0, Errno::EFBIG)?;
    }
    let changes = Changes {
        permissions: has(fattr::MODE).then_some(mode & 0o7777),
        uid: has(fattr::UID).then_some(uid),
        gid: has(fattr::GID).then_some(gid),
        size: has(fattr::SIZE).then_some(size),
        accessed: set_time(has(fattr::ATIME), has(fattr::ATIME_NOW), atime, atime_nanos)?,
        modified: set_time(has(fattr::MTIME), has(fattr::MTIME_NOW), mtime, mtime_nanos)?,
        drop_set_id: has(fattr::KILL_SUIDGID),
    };
    Ok(Operation::SetAttr { handle: has(fattr::FH).then_some(handle), changes })
}

fn set_time(set: bool, now: bool, seconds: u64, nanos: u32) -> Result<Option<SetTime>, Errno> {
    match (set, now) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(SetTime::Now)),
        (true, false) if nanos < 1_000_000_000 => {
            Ok(Some(SetTime::To(Time { seconds: seconds.cast_signed(), nanos })))
        }
        (true, false) => Err(Errno::EINVAL),
    }
}

fn rename(opcode: Opcode, c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let to = Inode(c.u64()?);
    let mut bits = 0;
    if opcode == Opcode::Rename2 {
        bits = c.u32()?;
        c.skip::<4>()?;
    }
    let (name, new_name) = (c.name()?, c.name()?);
    Ok(Operation::Rename { name, to, new_name, mode: RenameMode::from_bits(bits)? })
}

fn open_flags(bits: u32, fuse: u32) -> Result<OpenFlags, Errno> {
    let (read, write) = match bits & open::ACCESS_MODE {
        0 => (true, false),
        open::WRITE_ONLY => (false, true),
        open::READ_WRITE => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    Ok(OpenFlags {
        read,
        write,
        truncate: bits & open::TRUNCATE != 0,
        exclusive: bits & open::EXCLUSIVE != 0,
        sync: bits & open::SYNC == open::SYNC,
        data_sync: bits & open::DSYNC != 0,
        drop_set_id: fuse & abi::OPEN_KILL_SUIDGID != 0,
    })
}

fn create(opcode: Opcode, c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let (flags, mode) = (c.u32()?, c.u32()?);
    c.skip::<4>()?;
    let fuse = c.u32()?;
    let (flags, permissions) = (open_flags(flags, fuse)?, mode & 0o7777);
    if opcode == Opcode::TmpFile {
        // The kernel sends "/" for the name that the file does not have.
        c.string()?;
        return Ok(Operation::TmpFile { permissions, flags });
    }
    Ok(Operation::Create { name: c.name()?, permissions, flags })
}

fn read(c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let (handle, offset, size) = (Handle(c.u64()?), c.u64()?, c.u32()?);
    c.skip::<20>()?;
    checked_range(offset, u64::from(size), Errno::EINVAL)?;
    Ok(Operation::Read { handle, offset, size })
}

pub(super) fn write(bytes: &mut Readable) -> Result<Operation, Errno> {
    let arguments = bytes.take::<40>().ok_or(Errno::EINVAL)?;
    let mut c = Cursor::new(&arguments);
    let (handle, offset, size, how) = (Handle(c.u64()?), c.u64()?, c.u32()?, c.u32()?);
    c.skip::<8>()?;
    let flags = c.u32()?;
    if usize::try_from(size) != Ok(bytes.remaining()) || size > super::MAX_WRITE {
        return Err(Errno::EINVAL);
    }
    checked_range(offset, u64::from(size), Errno::EFBIG)?;
    let write_back = how & abi::WRITE_CACHE != 0;
    let flags = WriteFlags {
        append: flags & open::APPEND != 0 && !write_back,
        write_back,
        drop_set_id: how & abi::WRITE_KILL_SUIDGID != 0,
    };
    Ok(Operation::Write { handle, offset, size, flags })
}

fn release(c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    // A flock belongs to the open file and ends with it; nothing else is in the rest.
    let handle = Handle(c.u64()?);
    c.skip::<16>()?;
    Ok(Operation::Release { handle })
}

fn lock(opcode: Opcode, c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let (handle, owner) = (Handle(c.u64()?), c.u64()?);
    let (start, end, kind, pid) = (c.u64()?, c.u64()?, c.u32()?, c.u32()?);
    let flags = c.u32()?;
    c.skip::<4>()?;
    let kind = match kind {
        0 => LockKind::Shared,
        1 => LockKind::Exclusive,
        2 => LockKind::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let family = if flags & abi::LK_FLOCK != 0 { LockFamily::Flock } else { LockFamily::Posix };
    if start > end || i64::try_from(end).is_err() {
        return Err(Errno::EINVAL);
    }
    let lock = Lock { family, kind, owner, start, end, pid };
    Ok(match opcode {
        Opcode::GetLk => Operation::GetLock { handle, lock },
        _ => Operation::SetLock { handle, lock, wait: opcode == Opcode::SetLkW },
    })
}

fn set_xattr(c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let (size, flags) = (c.u32()?, c.u32()?);
    let name = c.name()?;
    let value = c.rest();
    if usize::try_from(size) != Ok(value.len()) || flags > 2 {
        return Err(Errno::EINVAL);
    }
    Ok(Operation::SetXattr { name, value: value.to_vec(), flags })
}

fn init(c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let (major, minor, max_readahead, low) = (c.u32()?, c.u32()?, c.u32()?, c.u32()?);
    let mut flags = u64::from(low);
    if flags & abi::init::INIT_EXT != 0 {
        flags |= u64::from(c.u32()?) << 32;
    }
    c.rest();
    Ok(Operation::Init { offer: Offer { major, minor, max_readahead, flags } })
}

fn copy_range(header: &Header, c: &mut Cursor<'_>) -> Result<Operation, Errno> {
    let (handle, offset) = (Handle(c.u64()?), c.u64()?);
    let from = Place { inode: header.inode, handle, offset };
    let (inode, handle, offset) = (Inode(c.u64()?), Handle(c.u64()?), c.u64()?);
    let to = Place { inode, handle, offset };
    let (length, flags) = (c.u64()?, c.u64()?);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    checked_range(from.offset, length, Errno::EOVERFLOW)?;
    checked_range(to.offset, length, Errno::EFBIG)?;
    Ok(Operation::CopyRange { from, to, length })
}

pub(super) fn batch_forget(arguments: &[u8]) -> Result<Operation, Errno> {
    let mut c = Cursor::new(arguments);
    let count = c.u32()?;
    c.skip::<4>()?;
    let mut nodes = Vec::new();
    // As many as came, whatever `count` promises: it bounds nothing that is allocated.
    for _ in 0..count {
        nodes.push((Inode(c.u64()?), c.u64()?));
    }
    Ok(Operation::BatchForget { nodes })
}
