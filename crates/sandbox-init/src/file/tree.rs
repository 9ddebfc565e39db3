//! Reading a tree, in a worker. Nothing in it is followed: symlinks are entries.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Whence, lseek};
use protocol::v1::tree_piece::Piece;
use protocol::v1::{ReadTreeRequest, ReadTreeResponse, TreeEntry, TreePiece};

use super::content;
use super::operations::{About, Failure, Outcome, path_of, stat_of};
use super::worker::Answers;
use crate::limits::{FILE_PIECE, TREE_DEPTH};

pub(super) fn read_tree(request: &ReadTreeRequest, to: &mut Answers) -> Outcome {
    let path = path_of(&request.path);
    let found = fs::symlink_metadata(path).about(path)?;
    read_entry(path, Vec::new(), &found, 0, to)
}

/// Sends what is at `path`, `name` in the tree, and what is below.
fn read_entry(
    path: &Path,
    name: Vec<u8>,
    found: &Metadata,
    depth: usize,
    to: &mut Answers,
) -> Outcome {
    if depth > TREE_DEPTH {
        return Err(Failure::of(path, Errno::ELOOP));
    }
    let mut entry = TreeEntry { path: name.clone().into(), stat: None, target: Vec::new().into() };
    if found.is_symlink() {
        entry.target = fs::read_link(path).about(path)?.into_os_string().into_vec().into();
    }
    entry.stat = Some(stat_of(found));
    if !found.is_file() {
        send(to, Piece::Entry(entry))?;
    } else {
        // The file that is sent is the one that is told of.
        let file = content::open(path, libc::O_NOFOLLOW)?;
        let found = file.metadata().about(path)?;
        entry.stat = Some(stat_of(&found));
        send(to, Piece::Entry(entry))?;
        return send_content(path, &file, found.len(), to);
    }
    if found.is_dir() {
        for child in fs::read_dir(path).about(path)? {
            let child = child.about(path)?;
            let found = match child.metadata() {
                Ok(found) => found,
                // It has gone since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.about(&child.path())?,
            };
            let mut inner = name.clone();
            if !inner.is_empty() {
                inner.push(b'/');
            }
            inner.extend_from_slice(child.file_name().as_bytes());
            match read_entry(&child.path(), inner, &found, depth.saturating_add(1), to) {
                Err(failure) if failure.errno == Errno::ENOENT => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn send(to: &mut Answers, piece: Piece) -> Outcome {
    to.send(&ReadTreeResponse { piece: Some(TreePiece { piece: Some(piece) }) })
}

/// Sends `size` bytes, or what there is: data as data, holes as holes.
fn send_content(path: &Path, file: &File, size: u64, to: &mut Answers) -> Outcome {
    let mut at = 0;
    let mut buffer = vec![0; FILE_PIECE];
    while at < size {
        let data = next_data(file, at).about(path)?.map_or(size, |data| data.clamp(at, size));
        if data > at {
            send(to, Piece::Hole(data.saturating_sub(at)))?;
        }
        let end = match seek(file, data, Whence::SeekHole) {
            Ok(end) if data < size => end.min(size),
            _ => size,
        };
        at = data;
        while at < end {
            let room = usize::try_from(end.saturating_sub(at)).unwrap_or(FILE_PIECE);
            let room = buffer.get_mut(..room.min(FILE_PIECE)).unwrap_or_default();
            let count = match file.read_at(room, at) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).about(path),
            };
            send(to, Piece::Data(room.get(..count).unwrap_or_default().to_vec().into()))?;
            at = at.saturating_add(count as u64);
        }
    }
    Ok(())
}

/// Where the next data begins; `None` when only a hole is left. A filesystem that does not know
/// has data everywhere.
fn next_data(file: &File, at: u64) -> nix::Result<Option<u64>> {
    match seek(file, at, Whence::SeekData) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(at)),
        Err(errno) => Err(errno),
    }
}

fn seek(file: &File, at: u64, whence: Whence) -> nix::Result<u64> {
    let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    let found = lseek(file.as_fd(), at, whence)?;
    u64::try_from(found).map_err(|_| Errno::EOVERFLOW)
}
