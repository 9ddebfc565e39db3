//! From a checked request to the backend's method, and from its result to the reply's body.

use super::MAX_WRITE;
use super::abi;
use super::directory::DirectorySink;
use super::reply;
use super::request::{Header, Operation};
use crate::{Errno, FileSystem, Kind, Readable, Writable};

/// The body of a reply.
pub(super) enum Answer {
    Bytes(Vec<u8>),
    /// This many bytes lie behind the header's place already.
    InPlace(usize),
}

impl Answer {
    pub(super) const NOTHING: Answer = Answer::Bytes(Vec::new());
}

/// The room a reply may need behind its header; for lists and data, which are cut to the room
/// there is, the least that makes sense.
pub(super) fn reply_size(operation: &Operation) -> usize {
    match operation {
        Operation::Lookup { .. }
        | Operation::Symlink { .. }
        | Operation::MkNod { .. }
        | Operation::MkDir { .. }
        | Operation::Link { .. } => abi::ENTRY_OUT_SIZE,
        Operation::Create { .. } | Operation::TmpFile { .. } => {
            abi::ENTRY_OUT_SIZE + abi::OPEN_OUT_SIZE
        }
        Operation::GetAttr { .. } | Operation::SetAttr { .. } => abi::ATTR_OUT_SIZE,
        Operation::Open { .. } | Operation::OpenDir => abi::OPEN_OUT_SIZE,
        Operation::Write { .. } | Operation::CopyRange { .. } => abi::WRITE_OUT_SIZE,
        Operation::StatFs => abi::STATFS_OUT_SIZE,
        Operation::GetXattr { size: 0, .. } | Operation::ListXattr { size: 0 } => {
            abi::XATTR_OUT_SIZE
        }
        Operation::GetLock { .. } => abi::LOCK_OUT_SIZE,
        Operation::LSeek { .. } => abi::LSEEK_OUT_SIZE,
        Operation::Init { .. } => abi::INIT_OUT_SIZE,
        _ => 0,
    }
}

/// Does what `operation` asks for.
pub(super) async fn perform<F: FileSystem>(
    fs: &F,
    header: &Header,
    operation: Operation,
    request: &mut Readable,
    out: &mut Writable,
) -> Result<Answer, Errno> {
    let (inode, caller) = (header.inode, header.caller);
    let done = |()| Answer::NOTHING;
    let entry = |entry| Answer::Bytes(reply::entry(&entry));
    match operation {
        Operation::Lookup { name } => fs.lookup(caller, inode, &name).await.map(entry),
        Operation::GetAttr { handle } => {
            let (attr, ttl) = fs.get_attr(inode, handle).await?;
            Ok(Answer::Bytes(reply::attr(&attr, ttl)))
        }
        Operation::SetAttr { handle, changes } => {
            let (attr, ttl) = fs.set_attr(inode, handle, changes).await?;
            Ok(Answer::Bytes(reply::attr(&attr, ttl)))
        }
        Operation::ReadLink => fs.read_link(inode).await.map(Answer::Bytes),
        Operation::Symlink { name, target } => {
            fs.symlink(caller, inode, &name, &target).await.map(entry)
        }
        Operation::MkNod { name, mode, device: _ } => match Kind::from_mode(mode) {
            Some(Kind::File | Kind::Fifo | Kind::Socket) => {
                fs.make_node(caller, inode, &name, mode).await.map(entry)
            }
            Some(Kind::CharDevice | Kind::BlockDevice) => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        },
        Operation::MkDir { name, permissions } => {
            fs.make_dir(caller, inode, &name, permissions).await.map(entry)
        }
        Operation::Unlink { name } => fs.unlink(inode, &name).await.map(done),
        Operation::RmDir { name } => fs.remove_dir(inode, &name).await.map(done),
        Operation::Rename { name, to, new_name, mode } => {
            fs.rename((inode, &name), (to, &new_name), mode).await.map(done)
        }
        Operation::Link { from, name } => fs.link(from, inode, &name).await.map(entry),
        Operation::Create { name, permissions, flags } => {
            let (entry, opened) = fs.create(caller, inode, &name, permissions, flags).await?;
            Ok(Answer::Bytes(reply::created(&entry, &opened)))
        }
        Operation::TmpFile { permissions, flags } => {
            let (entry, opened) = fs.temporary(caller, inode, permissions, flags).await?;
            Ok(Answer::Bytes(reply::created(&entry, &opened)))
        }
        Operation::StatFs => {
            let stat = fs.stat_fs(inode).await?;
            Ok(Answer::Bytes(reply::stat_fs(&stat)))
        }
        Operation::SyncFs => fs.sync_fs().await.map(done),
        Operation::Refused { errno } => Err(errno),
        operation => match xattr(fs, header, operation, out).await {
            Ok(answer) => answer,
            Err(operation) => opened(fs, header, operation, request, out).await,
        },
    }
}

/// Extended attributes; gives back what is none of them.
async fn xattr<F: FileSystem>(
    fs: &F,
    header: &Header,
    operation: Operation,
    out: &Writable,
) -> Result<Result<Answer, Errno>, Operation> {
    let inode = header.inode;
    let sized = |value: Result<Vec<u8>, Errno>, size: u32| {
        let value = value?;
        let length = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
        let room = out.capacity().saturating_sub(abi::OUT_HEADER_SIZE);
        match size {
            0 => Ok(Answer::Bytes(reply::count(length))),
            _ if length > size || value.len() > room => Err(Errno::ERANGE),
            _ => Ok(Answer::Bytes(value)),
        }
    };
    Ok(match operation {
        Operation::SetXattr { name, value, flags } => {
            fs.set_xattr(inode, &name, &value, flags).await.map(|()| Answer::NOTHING)
        }
        Operation::GetXattr { name, size } => sized(fs.get_xattr(inode, &name).await, size),
        Operation::ListXattr { size } => sized(fs.list_xattr(inode).await, size),
        Operation::RemoveXattr { name } => {
            fs.remove_xattr(inode, &name).await.map(|()| Answer::NOTHING)
        }
        other => return Err(other),
    })
}

/// Everything about open files and directories.
async fn opened<F: FileSystem>(
    fs: &F,
    header: &Header,
    operation: Operation,
    request: &mut Readable,
    out: &mut Writable,
) -> Result<Answer, Errno> {
    let inode = header.inode;
    let done = |()| Answer::NOTHING;
    match operation {
        Operation::Open { flags } => {
            let opened = fs.open(inode, flags).await?;
            Ok(Answer::Bytes(reply::opened(&opened)))
        }
        Operation::Read { handle, offset, size } => {
            let limit = usize::try_from(size.min(MAX_WRITE)).unwrap_or(0);
            let mut body = out.body(abi::OUT_HEADER_SIZE, limit);
            fs.read(inode, handle, offset, &mut body).await?;
            Ok(Answer::InPlace(body.filled()))
        }
        Operation::Write { handle, offset, size, flags } => {
            let count = fs.write(inode, handle, offset, request, flags).await?;
            let count = u32::try_from(count).map_err(|_| Errno::EIO)?.min(size);
            Ok(Answer::Bytes(reply::count(count)))
        }
        Operation::Flush { handle, owner } => fs.flush(inode, handle, owner).await.map(done),
        Operation::Release { handle } => fs.release(inode, handle).map(done),
        Operation::Fsync { handle, data_only } => {
            fs.fsync(inode, handle, data_only).await.map(done)
        }
        Operation::OpenDir => {
            let opened = fs.open_dir(inode).await?;
            Ok(Answer::Bytes(reply::opened(&opened)))
        }
        Operation::ReadDir { handle, offset, size, plus } => {
            let room = out.capacity().saturating_sub(abi::OUT_HEADER_SIZE);
            let limit = room.min(usize::try_from(size.min(MAX_WRITE)).unwrap_or(0));
            let mut sink = DirectorySink::new(limit, plus);
            fs.read_dir(inode, handle, offset, &mut sink).await?;
            Ok(Answer::Bytes(sink.finish()))
        }
        Operation::ReleaseDir { handle } => fs.release_dir(inode, handle).map(done),
        Operation::FsyncDir { handle, data_only } => {
            fs.fsync_dir(inode, handle, data_only).await.map(done)
        }
        Operation::GetLock { handle, lock } => {
            let found = fs.get_lock(inode, handle, lock).await?;
            Ok(Answer::Bytes(reply::lock(&found)))
        }
        Operation::SetLock { handle, lock, wait } => {
            fs.set_lock(inode, handle, lock, wait).await.map(done)
        }
        Operation::Allocate { handle, offset, length, mode } => {
            fs.allocate(inode, handle, (offset, length), mode).await.map(done)
        }
        Operation::LSeek { handle, seek } => {
            let offset = fs.seek(inode, handle, seek).await?;
            Ok(Answer::Bytes(reply::offset(offset)))
        }
        Operation::CopyRange { from, to, length } => {
            let count = fs.copy_range(from, to, length).await?;
            Ok(Answer::Bytes(reply::count(u32::try_from(count).map_err(|_| Errno::EIO)?)))
        }
        _ => Err(Errno::ENOSYS),
    }
}
