//! The content of one file, in a worker.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use protocol::v1::write_file_request::Request;
use protocol::v1::{OpenFile, ReadFileRequest, ReadFileResponse, WriteFileRequest, WriteMode};

use super::operations::{About, Failure, Outcome, path_of};
use super::worker::{Answers, Uploads};
use crate::limits::FILE_PIECE;

/// Opening never waits for the other side of a FIFO.
const FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Refuses what is no regular file, before it is opened: opening a device can do things.
fn require_file(path: &Path, found: &fs::Metadata) -> Outcome {
    match found.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(Failure::of(path, Errno::EISDIR)),
        _ => Err(Failure::of(path, Errno::EINVAL)),
    }
}

/// Opens a regular file for reading. `flags` go to open(2).
pub(super) fn open(path: &Path, flags: i32) -> Outcome<File> {
    let file = OpenOptions::new().read(true).custom_flags(FLAGS | flags).open(path).about(path)?;
    require_file(path, &file.metadata().about(path)?)?;
    Ok(file)
}

pub(super) fn read_file(request: &ReadFileRequest, to: &mut Answers) -> Outcome {
    let path = path_of(&request.path);
    require_file(path, &fs::metadata(path).about(path)?)?;
    let mut file = open(path, 0)?;
    if request.offset > 0 {
        file.seek(SeekFrom::Start(request.offset)).about(path)?;
    }
    let mut left = request.length.unwrap_or(u64::MAX);
    let mut buffer = vec![0; FILE_PIECE];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(FILE_PIECE).min(FILE_PIECE);
        let count = match file.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).about(path),
        };
        left = left.saturating_sub(count as u64);
        let data = buffer.get(..count).unwrap_or_default().to_vec().into();
        to.send(&ReadFileResponse { data })?;
    }
    Ok(())
}

pub(super) fn write_file(from: &mut Uploads) -> Outcome {
    let first: WriteFileRequest = from.next()?.unwrap_or_default();
    let Some(Request::Open(open)) = first.request else {
        return Err(Failure::of(Path::new("WriteFile without open"), Errno::EINVAL));
    };
    let path = path_of(&open.path);
    let mut file = open_for_writing(path, &open)?;
    while let Some(WriteFileRequest { request }) = from.next()? {
        if let Some(Request::Data(data)) = request {
            file.write_all(&data).about(path)?;
        }
    }
    // Some filesystems tell only now that there is no space.
    nix::unistd::close(file).about(path)
}

fn open_for_writing(path: &Path, open: &OpenFile) -> Outcome<File> {
    match fs::metadata(path) {
        Ok(found) => require_file(path, &found)?,
        Err(_) if open.create_parents => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(parent).about(parent)?;
            }
        }
        Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).mode(open.permissions.unwrap_or(0o644) & 0o777).custom_flags(FLAGS);
    match open.mode() {
        WriteMode::Unspecified => options.create(true).truncate(true),
        WriteMode::Append => options.create(true).append(true),
        WriteMode::New => options.create_new(true),
    };
    let file = options.open(path).about(path)?;
    require_file(path, &file.metadata().about(path)?)?;
    if let Some(mode) = open.permissions {
        file.set_permissions(fs::Permissions::from_mode(mode)).about(path)?;
    }
    Ok(file)
}
