//! A tree in memory behind the callback interface: what the callback adapter is tested with.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use vfs::callbacks::{Callbacks, DirectoryEntry, Features, FilePath, FileStat};
use vfs::{Errno, Kind, RenameMode, SetTime, Time};

#[derive(Clone)]
struct File {
    kind: Kind,
    permissions: u32,
    owner: (u32, u32),
    nlink: u32,
    content: Vec<u8>,
    accessed: Time,
    modified: Time,
    changed: Time,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<Vec<u8>, u64>,
    files: BTreeMap<u64, File>,
    next: u64,
}

/// The tree; clones share it.
#[derive(Clone)]
pub struct Model {
    state: Arc<Mutex<State>>,
    pub features: Features,
}

fn now() -> Time {
    SystemTime::now().into()
}

fn parent(path: &[u8]) -> &[u8] {
    let cut = path.iter().rposition(|byte| *byte == b'/').unwrap();
    if cut == 0 { b"/" } else { &path[..cut] }
}

fn below(path: &[u8]) -> Vec<u8> {
    let mut prefix = path.to_vec();
    if prefix != b"/" {
        prefix.push(b'/');
    }
    prefix
}

impl State {
    fn find(&self, path: &[u8]) -> Result<u64, Errno> {
        self.names.get(path).copied().ok_or(Errno::ENOENT)
    }

    fn file(&mut self, path: &[u8]) -> Result<&mut File, Errno> {
        let ino = self.find(path)?;
        Ok(self.files.get_mut(&ino).unwrap())
    }

    fn stat(&self, path: &[u8]) -> Result<FileStat, Errno> {
        let ino = self.find(path)?;
        let file = &self.files[&ino];
        let children = self.names.range(below(path)..).take_while(|(name, _)| {
            name.starts_with(&below(path)) && name.len() > below(path).len()
        });
        let subdirectories = children
            .filter(|(name, ino)| parent(name) == path && self.files[ino].kind == Kind::Directory)
            .count();
        let nlink = match file.kind {
            Kind::Directory => 2 + u32::try_from(subdirectories).unwrap(),
            _ => file.nlink,
        };
        Ok(FileStat {
            kind: file.kind,
            size: Some(file.content.len() as u64),
            allocated: None,
            permissions: Some(file.permissions),
            uid: Some(file.owner.0),
            gid: Some(file.owner.1),
            nlink: Some(nlink),
            ino: Some(ino),
            modified: Some(file.modified),
            accessed: Some(file.accessed),
            changed: Some(file.changed),
        })
    }

    fn touch_parent(&mut self, path: &[u8]) {
        if let Ok(directory) = self.file(parent(path)) {
            (directory.modified, directory.changed) = (now(), now());
        }
    }

    fn make(&mut self, path: &[u8], kind: Kind, permissions: u32) -> Result<(), Errno> {
        if self.names.contains_key(path) {
            return Err(Errno::EEXIST);
        }
        if self.file(parent(path))?.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.next += 1;
        let time = now();
        let file = File {
            kind,
            permissions,
            owner: (0, 0),
            nlink: 1,
            content: Vec::new(),
            accessed: time,
            modified: time,
            changed: time,
            xattrs: BTreeMap::new(),
        };
        self.files.insert(self.next, file);
        self.names.insert(path.to_vec(), self.next);
        self.touch_parent(path);
        Ok(())
    }

    fn drop_name(&mut self, path: &[u8]) -> Result<(), Errno> {
        let ino = self.find(path)?;
        self.names.remove(path);
        let file = self.files.get_mut(&ino).unwrap();
        file.nlink -= 1;
        file.changed = now();
        if file.nlink == 0 {
            self.files.remove(&ino);
        }
        self.touch_parent(path);
        Ok(())
    }

    fn is_empty(&self, path: &[u8]) -> bool {
        let prefix = below(path);
        !self
            .names
            .range(prefix.clone()..)
            .any(|(name, _)| name.starts_with(&prefix) && name.len() > prefix.len())
    }

    fn move_all(&mut self, from: &[u8], to: &[u8]) {
        let prefix = below(from);
        let moved: Vec<Vec<u8>> = self
            .names
            .keys()
            .filter(|name| name.as_slice() == from || name.starts_with(&prefix))
            .cloned()
            .collect();
        for name in moved {
            let ino = self.names.remove(&name).unwrap();
            let mut new = to.to_vec();
            new.extend_from_slice(&name[from.len()..]);
            self.names.insert(new, ino);
        }
    }
}

impl Model {
    pub fn new(features: Features) -> Self {
        let mut state = State { next: 1, ..State::default() };
        let time = now();
        let root = File {
            kind: Kind::Directory,
            permissions: 0o755,
            owner: (0, 0),
            nlink: 1,
            content: Vec::new(),
            accessed: time,
            modified: time,
            changed: time,
            xattrs: BTreeMap::new(),
        };
        state.files.insert(1, root);
        state.names.insert(b"/".to_vec(), 1);
        Self { state: Arc::new(Mutex::new(state)), features }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }

    pub fn put(&self, path: &str, content: &[u8]) {
        self.with(|state| {
            let _ = state.make(path.as_bytes(), Kind::File, 0o644);
            let file = state.file(path.as_bytes()).unwrap();
            file.content = content.to_vec();
            file.modified = now();
        });
    }

    pub fn delete(&self, path: &str) {
        self.with(|state| state.drop_name(path.as_bytes()).unwrap());
    }

    pub fn paths(&self) -> Vec<String> {
        self.with(|s| s.names.keys().map(|n| String::from_utf8_lossy(n).into_owned()).collect())
    }
}

impl Callbacks for Model {
    fn features(&self) -> Features {
        self.features
    }

    async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        self.with(|state| state.stat(path.as_bytes()))
    }

    async fn list(&self, path: &FilePath) -> Result<Vec<DirectoryEntry>, Errno> {
        self.with(|state| {
            let prefix = below(path.as_bytes());
            let names: Vec<Vec<u8>> = state
                .names
                .range(prefix.clone()..)
                .map(|(name, _)| name)
                .take_while(|name| name.starts_with(&prefix))
                .filter(|name| name.len() > prefix.len() && !name[prefix.len()..].contains(&b'/'))
                .cloned()
                .collect();
            names
                .into_iter()
                .map(|name| {
                    let stat = state.stat(&name)?;
                    Ok(DirectoryEntry { name: name[prefix.len()..].to_vec(), stat })
                })
                .collect()
        })
    }

    async fn read(&self, path: &FilePath, offset: u64, length: usize) -> Result<Bytes, Errno> {
        self.with(|state| {
            let content = &state.file(path.as_bytes())?.content;
            let from = usize::try_from(offset).unwrap().min(content.len());
            let to = (from + length).min(content.len());
            Ok(Bytes::copy_from_slice(&content[from..to]))
        })
    }

    async fn create_file(
        &self,
        path: &FilePath,
        kind: Kind,
        permissions: u32,
    ) -> Result<FileStat, Errno> {
        self.with(|state| {
            state.make(path.as_bytes(), kind, permissions)?;
            state.stat(path.as_bytes())
        })
    }

    async fn write(&self, path: &FilePath, offset: u64, contents: Bytes) -> Result<u64, Errno> {
        self.with(|state| {
            let file = state.file(path.as_bytes())?;
            let from = usize::try_from(offset).unwrap();
            let to = from + contents.len();
            if to > 1 << 28 {
                return Err(Errno::ENOSPC);
            }
            if file.content.len() < to {
                file.content.resize(to, 0);
            }
            file.content[from..to].copy_from_slice(&contents);
            (file.modified, file.changed) = (now(), now());
            Ok(contents.len() as u64)
        })
    }

    async fn truncate(&self, path: &FilePath, size: u64) -> Result<FileStat, Errno> {
        self.with(|state| {
            if size > 1 << 28 {
                return Err(Errno::EFBIG);
            }
            let file = state.file(path.as_bytes())?;
            file.content.resize(usize::try_from(size).unwrap(), 0);
            (file.modified, file.changed) = (now(), now());
            state.stat(path.as_bytes())
        })
    }

    async fn mkdir(&self, path: &FilePath, permissions: u32) -> Result<(), Errno> {
        self.with(|state| state.make(path.as_bytes(), Kind::Directory, permissions))
    }

    async fn unlink(&self, path: &FilePath) -> Result<(), Errno> {
        self.with(|state| {
            if state.file(path.as_bytes())?.kind == Kind::Directory {
                return Err(Errno::EISDIR);
            }
            state.drop_name(path.as_bytes())
        })
    }

    async fn rmdir(&self, path: &FilePath) -> Result<(), Errno> {
        self.with(|state| {
            if state.file(path.as_bytes())?.kind != Kind::Directory {
                return Err(Errno::ENOTDIR);
            }
            if !state.is_empty(path.as_bytes()) {
                return Err(Errno::ENOTEMPTY);
            }
            state.drop_name(path.as_bytes())
        })
    }

    async fn rename(&self, from: &FilePath, to: &FilePath, mode: RenameMode) -> Result<(), Errno> {
        let (from, to) = (from.as_bytes(), to.as_bytes());
        self.with(|state| {
            let ino = state.find(from)?;
            let moved_directory = state.files[&ino].kind == Kind::Directory;
            if state.file(parent(to))?.kind != Kind::Directory {
                return Err(Errno::ENOTDIR);
            }
            let target = state.names.get(to).copied();
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => return Err(Errno::EEXIST),
                (RenameMode::Exchange, None) => return Err(Errno::ENOENT),
                (RenameMode::Exchange, Some(_)) => {
                    let aside = b"/\0aside".to_vec();
                    state.move_all(from, &aside);
                    state.move_all(to, from);
                    state.move_all(&aside, to);
                }
                (_, Some(other)) if other == ino => return Ok(()),
                (_, other) => {
                    if let Some(other) = other {
                        let is_directory = state.files[&other].kind == Kind::Directory;
                        match (moved_directory, is_directory) {
                            (true, false) => return Err(Errno::ENOTDIR),
                            (false, true) => return Err(Errno::EISDIR),
                            (true, true) if !state.is_empty(to) => return Err(Errno::ENOTEMPTY),
                            _ => state.drop_name(to)?,
                        }
                    }
                    state.move_all(from, to);
                }
            }
            if let Some(file) = state.files.get_mut(&ino) {
                file.changed = now();
            }
            state.touch_parent(from);
            state.touch_parent(to);
            Ok(())
        })
    }

    async fn link(&self, existing: &FilePath, path: &FilePath) -> Result<(), Errno> {
        self.with(|state| {
            if state.names.contains_key(path.as_bytes()) {
                return Err(Errno::EEXIST);
            }
            let ino = state.find(existing.as_bytes())?;
            state.names.insert(path.as_bytes().to_vec(), ino);
            let file = state.files.get_mut(&ino).unwrap();
            file.nlink += 1;
            file.changed = now();
            state.touch_parent(path.as_bytes());
            Ok(())
        })
    }

    async fn symlink(&self, target: &[u8], path: &FilePath) -> Result<(), Errno> {
        self.with(|state| {
            state.make(path.as_bytes(), Kind::Symlink, 0o777)?;
            state.file(path.as_bytes())?.content = target.to_vec();
            Ok(())
        })
    }

    async fn readlink(&self, path: &FilePath) -> Result<Vec<u8>, Errno> {
        self.with(|state| Ok(state.file(path.as_bytes())?.content.clone()))
    }

    async fn chmod(&self, path: &FilePath, permissions: u32) -> Result<(), Errno> {
        self.with(|state| {
            let file = state.file(path.as_bytes())?;
            file.permissions = permissions;
            file.changed = now();
            Ok(())
        })
    }

    async fn chown(&self, path: &FilePath, uid: u32, gid: u32) -> Result<(), Errno> {
        self.with(|state| {
            let file = state.file(path.as_bytes())?;
            file.owner = (uid, gid);
            file.changed = now();
            Ok(())
        })
    }

    async fn utimes(
        &self,
        path: &FilePath,
        accessed: Option<SetTime>,
        modified: Option<SetTime>,
    ) -> Result<(), Errno> {
        self.with(|state| {
            let file = state.file(path.as_bytes())?;
            let set = |slot: &mut Time, time| match time {
                None => {}
                Some(SetTime::Now) => *slot = now(),
                Some(SetTime::To(time)) => *slot = time,
            };
            set(&mut file.accessed, accessed);
            set(&mut file.modified, modified);
            file.changed = now();
            Ok(())
        })
    }

    async fn setxattr(
        &self,
        path: &FilePath,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.with(|state| {
            let xattrs = &mut state.file(path.as_bytes())?.xattrs;
            match (flags, xattrs.contains_key(name)) {
                (1, true) => return Err(Errno::EEXIST),
                (2, false) => return Err(Errno::ENODATA),
                _ => xattrs.insert(name.to_vec(), value.to_vec()),
            };
            Ok(())
        })
    }

    async fn getxattr(&self, path: &FilePath, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.with(|s| s.file(path.as_bytes())?.xattrs.get(name).cloned().ok_or(Errno::ENODATA))
    }

    async fn listxattr(&self, path: &FilePath) -> Result<Vec<Vec<u8>>, Errno> {
        self.with(|state| Ok(state.file(path.as_bytes())?.xattrs.keys().cloned().collect()))
    }

    async fn removexattr(&self, path: &FilePath, name: &[u8]) -> Result<(), Errno> {
        self.with(|state| {
            let xattrs = &mut state.file(path.as_bytes())?.xattrs;
            xattrs.remove(name).map(drop).ok_or(Errno::ENODATA)
        })
    }
}
