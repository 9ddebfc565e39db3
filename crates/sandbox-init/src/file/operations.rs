//! The operations that are one system call or a few, in a worker.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, FileType as Kind, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use protocol::v1::{
    ChangeModeRequest, DirectoryEntry, FileStat, FileTime, FileType, MakeDirectoryRequest,
    MakeSymlinkRequest, ReadDirectoryRequest, ReadDirectoryResponse, ReadLinkRequest,
    ReadLinkResponse, RemoveRequest, RenameRequest, StatRequest, StatResponse,
};

use super::worker::Answers;
use crate::limits::DIRECTORY_PIECE;

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) errno: Errno,
    pub(crate) message: String,
}

/// The result of an operation.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that names what it was about.
    pub(crate) fn of(path: &Path, errno: Errno) -> Self {
        Self { errno, message: format!("{}: {}", path.display(), errno.desc()) }
    }
}

/// Says what a failed system call was about.
pub(crate) trait About<T> {
    /// It was about `path`.
    fn about(self, path: &Path) -> Outcome<T>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, path: &Path) -> Outcome<T> {
        self.map_err(|error| Failure::of(path, errno(&error)))
    }
}

impl<T> About<T> for nix::Result<T> {
    fn about(self, path: &Path) -> Outcome<T> {
        self.map_err(|errno| Failure::of(path, errno))
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

/// A path of a request.
pub(crate) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// What stat(2) told.
pub(crate) fn stat_of(found: &Metadata) -> FileStat {
    let time = |seconds, nanos: i64| FileTime { seconds, nanos: u32::try_from(nanos).unwrap_or(0) };
    FileStat {
        r#type: type_of(found.file_type()).into(),
        size: Some(found.size()),
        allocated: Some(found.blocks().saturating_mul(512)),
        mode: Some(found.mode() & 0o7777),
        uid: Some(found.uid()),
        gid: Some(found.gid()),
        nlink: Some(u32::try_from(found.nlink()).unwrap_or(u32::MAX)),
        ino: Some(found.ino()),
        modified: Some(time(found.mtime(), found.mtime_nsec())),
        accessed: Some(time(found.atime(), found.atime_nsec())),
        changed: Some(time(found.ctime(), found.ctime_nsec())),
    }
}

fn type_of(kind: Kind) -> FileType {
    match kind {
        kind if kind.is_dir() => FileType::Directory,
        kind if kind.is_symlink() => FileType::Symlink,
        kind if kind.is_fifo() => FileType::Fifo,
        kind if kind.is_socket() => FileType::Socket,
        kind if kind.is_char_device() => FileType::CharacterDevice,
        kind if kind.is_block_device() => FileType::BlockDevice,
        _ => FileType::File,
    }
}

pub(super) fn stat(request: &StatRequest) -> Outcome<StatResponse> {
    let path = path_of(&request.path);
    let found = fs::symlink_metadata(path).about(path)?;
    Ok(StatResponse { stat: Some(stat_of(&found)) })
}

pub(super) fn read_directory(request: &ReadDirectoryRequest, to: &mut Answers) -> Outcome {
    let path = path_of(&request.path);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).about(path)? {
        let entry = entry.about(path)?;
        let found = match entry.metadata() {
            Ok(found) => found,
            // It has gone since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::of(&entry.path(), errno(&error))),
        };
        let name = entry.file_name().into_vec().into();
        entries.push(DirectoryEntry { name, stat: Some(stat_of(&found)) });
        if entries.len() == DIRECTORY_PIECE {
            to.send(&ReadDirectoryResponse { entries: std::mem::take(&mut entries) })?;
        }
    }
    if entries.is_empty() {
        return Ok(());
    }
    to.send(&ReadDirectoryResponse { entries })
}

pub(super) fn make_directory(request: &MakeDirectoryRequest) -> Outcome {
    let path = path_of(&request.path);
    if request.recursive {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).about(parent)?;
        }
    }
    fs::create_dir(path).about(path)?;
    match request.permissions {
        Some(mode) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).about(path),
        None => Ok(()),
    }
}

pub(super) fn remove(request: &RemoveRequest) -> Outcome {
    let path = path_of(&request.path);
    let removed = fs::symlink_metadata(path).and_then(|found| match found.is_dir() {
        true if request.recursive => fs::remove_dir_all(path),
        true => fs::remove_dir(path),
        false => fs::remove_file(path),
    });
    match removed {
        Err(error) if request.force && error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.about(path),
    }
}

pub(super) fn rename(request: &RenameRequest) -> Outcome {
    let (from, to) = (path_of(&request.from), path_of(&request.to));
    fs::rename(from, to).about(from)
}

pub(super) fn change_mode(request: &ChangeModeRequest) -> Outcome {
    let path = path_of(&request.path);
    fs::set_permissions(path, fs::Permissions::from_mode(request.permissions)).about(path)
}

pub(super) fn make_symlink(request: &MakeSymlinkRequest) -> Outcome {
    let path = path_of(&request.path);
    std::os::unix::fs::symlink(path_of(&request.target), path).about(path)
}

pub(super) fn read_link(request: &ReadLinkRequest) -> Outcome<ReadLinkResponse> {
    let path = path_of(&request.path);
    let target = fs::read_link(path).about(path)?.into_os_string().into_vec().into();
    Ok(ReadLinkResponse { target })
}
