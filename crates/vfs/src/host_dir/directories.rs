//! Reading directories.
//!
//! Entries stream from the host with the host's own offsets, which stay valid while entries come
//! and go. Only a directory on the way to masked names is read whole at the beginning of a pass,
//! because its entries come from two places.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom};

use super::HostDir;
use super::attributes;
use super::mask::{Masked, Step};
use super::node::Node;
use crate::fuse::DirectorySink;
use crate::{Errno, Handle, Inode, Kind, Name, Opened};

/// An open directory.
pub(super) struct OpenDirectory {
    node: Arc<Node>,
    pub(super) fd: Arc<OwnedFd>,
    step: Option<Step>,
    position: Mutex<Position>,
}

#[derive(Default)]
struct Position {
    /// Entries that were read and not given yet.
    ahead: VecDeque<Listed>,
    /// The offset of the first one, or of what comes next.
    at: u64,
    at_end: bool,
    /// All entries, where they are read whole.
    whole: Option<Vec<Listed>>,
}

#[derive(Clone)]
struct Listed {
    name: Vec<u8>,
    ino: u64,
    kind: Option<Kind>,
    next: u64,
}

impl HostDir {
    pub(super) fn open_directory(&self, inode: Inode) -> Result<Opened, Errno> {
        let node = self.nodes.get(inode)?;
        if node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let path = self.nodes.fd(&node)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = Arc::new(self.proc_fd.open_object(path.as_fd(), flags)?);
        let step = node.step();
        let open = OpenDirectory { node, fd, step, position: Mutex::default() };
        let handle = self.directories.insert(inode, open)?;
        Ok(Opened { handle, direct: false, keep_cache: self.options.exclusive })
    }

    pub(super) fn list(
        &self,
        inode: Inode,
        handle: Handle,
        offset: u64,
        sink: &mut DirectorySink,
    ) -> Result<(), Errno> {
        let open = self.directories.get(inode, handle)?;
        let mut position = open.position.lock().unwrap_or_else(PoisonError::into_inner);
        match open.step {
            None => self.stream(&open, &mut position, offset, sink),
            Some(step) => {
                if offset == 0 || position.whole.is_none() {
                    position.whole = Some(self.read_whole(&open, step)?);
                }
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                for listed in position.whole.iter().flatten().skip(from) {
                    if !self.give(&open, listed, sink)? {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn stream(
        &self,
        open: &OpenDirectory,
        position: &mut Position,
        offset: u64,
        sink: &mut DirectorySink,
    ) -> Result<(), Errno> {
        if offset != position.at || offset == 0 {
            rustix::fs::seek(&open.fd, SeekFrom::Start(offset))?;
            *position = Position { at: offset, ..Position::default() };
        }
        loop {
            while let Some(listed) = position.ahead.front() {
                if !self.give(open, listed, sink)? {
                    return Ok(());
                }
                position.at = listed.next;
                position.ahead.pop_front();
            }
            if position.at_end {
                return Ok(());
            }
            read_some(&open.fd, &mut position.ahead)?;
            position.at_end = position.ahead.is_empty();
        }
    }

    /// `false` when the sink is full.
    fn give(
        &self,
        open: &OpenDirectory,
        listed: &Listed,
        sink: &mut DirectorySink,
    ) -> Result<bool, Errno> {
        if !sink.fits(&listed.name) {
            return Ok(false);
        }
        let parent_of_root = listed.name == b".." && open.node.inode == Inode::ROOT;
        let ino = if parent_of_root { open.node.id.ino } else { listed.ino };
        let entry = match Name::new(&listed.name) {
            Ok(name) if sink.wants_entries() => {
                let place = self.place_in(Arc::clone(&open.node), &name, Errno::ENOENT)?;
                match self.look(&place) {
                    Ok(entry) => Some(entry),
                    // Gone since, or not to be had: its name is told, and asking for it fails.
                    Err(Errno::ENOENT | Errno::EACCES) => None,
                    Err(errno) => return Err(errno),
                }
            }
            _ => None,
        };
        Ok(sink.push(&listed.name, ino, listed.kind, listed.next, entry.as_ref()))
    }

    fn read_whole(&self, open: &OpenDirectory, step: Step) -> Result<Vec<Listed>, Errno> {
        rustix::fs::seek(&open.fd, SeekFrom::Start(0))?;
        let mut all = VecDeque::new();
        while {
            let before = all.len();
            read_some(&open.fd, &mut all)?;
            all.len() > before
        } {}
        let mut whole: Vec<Listed> = all
            .into_iter()
            .filter(|listed| {
                let masked = self.mask.find(Some(step), &listed.name);
                matches!(masked, Masked::No | Masked::OnTheWay(_))
            })
            .collect();
        for (name, storage) in self.mask.redirected(step) {
            if let Ok(found) = attributes::of_name(storage.as_fd(), &Name::new(&name)?) {
                let (ino, kind) = (self.devices.ino_in_guest(found.id), Some(found.kind));
                whole.push(Listed { name, ino, kind, next: 0 });
            }
        }
        for (index, listed) in whole.iter_mut().enumerate() {
            listed.next = index as u64 + 1;
        }
        Ok(whole)
    }
}

/// Appends what one getdents gives; nothing at the end.
fn read_some(fd: &OwnedFd, ahead: &mut VecDeque<Listed>) -> Result<(), Errno> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 16 * 1024];
    let mut entries = RawDir::new(fd, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let kind = match entry.file_type() {
            FileType::RegularFile => Some(Kind::File),
            FileType::Directory => Some(Kind::Directory),
            FileType::Symlink => Some(Kind::Symlink),
            FileType::Fifo => Some(Kind::Fifo),
            FileType::Socket => Some(Kind::Socket),
            FileType::CharacterDevice => Some(Kind::CharDevice),
            FileType::BlockDevice => Some(Kind::BlockDevice),
            FileType::Unknown => None,
        };
        let name = entry.file_name().to_bytes().to_vec();
        let (ino, next) = (entry.ino(), entry.next_entry_cookie());
        ahead.push_back(Listed { name, ino, kind, next });
        if entries.is_buffer_empty() {
            break;
        }
    }
    Ok(())
}
