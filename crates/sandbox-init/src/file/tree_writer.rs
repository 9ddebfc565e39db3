//! Making a tree, in a worker. What it makes is new or a directory that was there: nothing below the
//! target is followed. The host has checked names and order.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use protocol::v1::tree_piece::Piece;
use protocol::v1::write_tree_request::Request;
use protocol::v1::{FileStat, FileType, TreeEntry, WriteTreeRequest};

use super::operations::{About, Failure, Outcome, path_of};
use super::worker::Uploads;

pub(super) fn write_tree(from: &mut Uploads) -> Outcome {
    let first: WriteTreeRequest = from.next()?.unwrap_or_default();
    let Some(Request::Target(target)) = first.request else {
        return Err(Failure::of(Path::new("WriteTree without target"), Errno::EINVAL));
    };
    let target = path_of(&target).to_owned();
    let mut writer = Writer { target, file: None, directories: Vec::new() };
    while let Some(WriteTreeRequest { request }) = from.next()? {
        if let Some(Request::Piece(piece)) = request {
            match piece.piece {
                Some(Piece::Entry(entry)) => writer.entry(&entry)?,
                Some(Piece::Data(data)) => writer.data(&data)?,
                Some(Piece::Hole(length)) => writer.hole(length)?,
                None => {}
            }
        }
    }
    writer.finish_file()?;
    while let Some(directory) = writer.directories.pop() {
        finish(&directory.path, &directory.stat)?;
    }
    Ok(())
}

struct Writer {
    target: PathBuf,
    file: Option<Open>,
    /// Those that the next entry may be in. They get their modes and times when nothing more comes.
    directories: Vec<Directory>,
}

struct Directory {
    name: Vec<u8>,
    path: PathBuf,
    stat: FileStat,
}

struct Open {
    file: File,
    path: PathBuf,
    stat: FileStat,
    at: u64,
}

impl Writer {
    fn entry(&mut self, entry: &TreeEntry) -> Outcome {
        self.finish_file()?;
        while self.directories.last().is_some_and(|inner| !is_inside(&entry.path, &inner.name)) {
            if let Some(done) = self.directories.pop() {
                finish(&done.path, &done.stat)?;
            }
        }
        let path = match entry.path.is_empty() {
            true => self.target.clone(),
            false => self.target.join(path_of(&entry.path)),
        };
        let stat = entry.stat.unwrap_or_default();
        match stat.r#type() {
            FileType::Directory => {
                make_directory(&path)?;
                self.directories.push(Directory { name: entry.path.to_vec(), path, stat });
            }
            FileType::File => {
                make_room(&path)?;
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
                let file = options.open(&path).about(&path)?;
                self.file = Some(Open { file, path, stat, at: 0 });
            }
            FileType::Symlink => {
                make_room(&path)?;
                std::os::unix::fs::symlink(path_of(&entry.target), &path).about(&path)?;
                set_times(&path, &stat)?;
            }
            _ => return Err(Failure::of(&path, Errno::EINVAL)),
        }
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> Outcome {
        let Some(open) = &mut self.file else { return Ok(()) };
        open.file.write_all_at(data, open.at).about(&open.path)?;
        open.at = open.at.saturating_add(data.len() as u64);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Outcome {
        let Some(open) = &mut self.file else { return Ok(()) };
        open.at = open.at.saturating_add(length);
        open.file.set_len(open.at).about(&open.path)
    }

    fn finish_file(&mut self) -> Outcome {
        let Some(Open { file, path, stat, .. }) = self.file.take() else { return Ok(()) };
        nix::unistd::close(file).about(&path)?;
        finish(&path, &stat)
    }
}

/// Whether `name` is below the directory `directory` of the tree.
fn is_inside(name: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || name.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn make_directory(path: &Path) -> Outcome {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).about(path)?;
            if found.is_dir() { Ok(()) } else { Err(Failure::of(path, Errno::ENOTDIR)) }
        }
        other => other.about(path),
    }
}

/// Removes what is there, unless it is a directory.
fn make_room(path: &Path) -> Outcome {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.about(path),
    }
}

/// Mode and time of what is complete; it is no symlink.
fn finish(path: &Path, stat: &FileStat) -> Outcome {
    if let Some(mode) = stat.mode {
        fs::set_permissions(path, Permissions::from_mode(mode)).about(path)?;
    }
    set_times(path, stat)
}

fn set_times(path: &Path, stat: &FileStat) -> Outcome {
    let Some(modified) = stat.modified else { return Ok(()) };
    let time = TimeSpec::new(modified.seconds, i64::from(modified.nanos));
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path.as_os_str().as_bytes(), &TimeSpec::UTIME_OMIT, &time, flags)
        .about(path)
}
