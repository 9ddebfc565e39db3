//! The files of an image before they are laid out: one sorted map from path to entry.
//!
//! Paths have no leading slash; the empty path is the root. Because the map is sorted, a
//! directory always comes before what it holds, and the order in which inputs were read leaves
//! no trace in the image.

use std::collections::BTreeMap;

use crate::content::Content;
use crate::error::{Error, Result};

/// Linux resolves at most this many symbolic links in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;
/// `PATH_MAX` and `NAME_MAX`.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Content),
    Symlink(String),
    /// Another name for the file at this path.
    HardLink(String),
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permission bits, `0o7777` at most.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u32,
    /// Full names such as `security.capability`.
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    pub(crate) fn new(kind: Kind, mode: u16, uid: u32, gid: u32, mtime: u32) -> Self {
        Self { kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() }
    }
}

#[derive(Debug)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
    epoch: u32,
}

impl Tree {
    /// A tree with an empty root directory; `epoch` is the newest time any entry will have.
    pub(crate) fn new(epoch: u32) -> Self {
        let root = Entry::new(Kind::Directory, 0o755, 0, 0, epoch);
        Self { entries: BTreeMap::from([(String::new(), root)]), epoch }
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Entries by path, directories before what they hold.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Add an entry or replace the one at its path; a directory given twice keeps what it holds.
    /// Directories above it that nobody has given are made, 0755 and owned by root.
    pub(crate) fn insert(&mut self, path: &str, mut entry: Entry) -> Result<()> {
        let is_directory = entry.kind == Kind::Directory;
        if let Some(old) = self.entries.get(path) {
            if (old.kind == Kind::Directory) != is_directory {
                return Err(Error::tree(path, "is a directory in one input and not in another"));
            }
        } else {
            self.make_parents(path)?;
        }
        if let Kind::HardLink(target) = &entry.kind {
            self.check_link_target(path, target)?;
        }
        entry.mtime = entry.mtime.min(self.epoch);
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Remove an entry and everything below it; it must exist.
    pub(crate) fn remove(&mut self, path: &str) -> Result<()> {
        if path.is_empty() {
            return Err(Error::tree(path, "the root cannot be removed"));
        }
        if self.entries.remove(path).is_none() {
            return Err(Error::tree(path, "is to be removed and does not exist"));
        }
        let below = format!("{path}/");
        self.entries.retain(|other, _| !other.starts_with(&below));
        Ok(())
    }

    fn make_parents(&mut self, path: &str) -> Result<()> {
        let Some(parent) = parent_of(path) else { return Ok(()) };
        match self.entries.get(parent).map(|entry| &entry.kind) {
            Some(Kind::Directory) => Ok(()),
            Some(_) => Err(Error::tree(path, "lies below something that is not a directory")),
            None => {
                self.make_parents(parent)?;
                let directory = Entry::new(Kind::Directory, 0o755, 0, 0, self.epoch);
                self.entries.insert(parent.to_owned(), directory);
                Ok(())
            }
        }
    }

    fn check_link_target(&self, path: &str, target: &str) -> Result<()> {
        match self.entries.get(target).map(|entry| &entry.kind) {
            None => Err(Error::tree(path, format!("is a hard link to /{target}, which is absent"))),
            Some(Kind::Directory) => Err(Error::tree(path, "is a hard link to a directory")),
            Some(_) => Ok(()),
        }
    }

    /// The path of the entry that an absolute path leads to inside the image, through symbolic
    /// links; nothing when it leads nowhere.
    pub(crate) fn resolve(&self, path: &str) -> Option<&str> {
        let mut pending: Vec<String> = components_reversed(path);
        let mut at = String::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = join(&at, &name);
            let Kind::Symlink(target) = &self.entries.get(&next)?.kind else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            if target.starts_with('/') {
                at.clear();
            }
            pending.extend(components_reversed(target));
        }
        self.entries.get_key_value(&at).map(|(path, _)| path.as_str())
    }
}

fn components_reversed(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|name| !matches!(*name, "" | ".")).map(str::to_owned).collect()
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// The directory that holds `path`; the root has none.
pub(crate) fn parent_of(path: &str) -> Option<&str> {
    if path.is_empty() {
        return None;
    }
    Some(path.rfind('/').map_or("", |slash| &path[..slash]))
}

/// The last part of a path.
pub(crate) fn name_of(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// `/a//b/`, `./a/b` and `a/b` all become `a/b`. Refused: `..`, names and paths that Linux would
/// refuse, and bytes that are not UTF-8 (the ext4 writer takes text).
pub(crate) fn normalise(raw: &[u8]) -> std::result::Result<String, String> {
    let text = std::str::from_utf8(raw)
        .map_err(|_| format!("the path '{}' is not UTF-8", String::from_utf8_lossy(raw)))?;
    let mut names = Vec::new();
    for name in text.split('/').filter(|name| !matches!(*name, "" | ".")) {
        if name == ".." || name.len() > MAX_NAME || name.contains('\0') {
            return Err(format!("the path '{text}' cannot be used"));
        }
        names.push(name);
    }
    let path = names.join("/");
    if path.len() > MAX_PATH {
        return Err(format!("the path '{text}' is too long"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Entry {
        Entry::new(Kind::Directory, 0o755, 0, 0, 7)
    }

    fn symlink(target: &str) -> Entry {
        Entry::new(Kind::Symlink(target.to_owned()), 0o777, 0, 0, 7)
    }

    #[test]
    fn paths_are_normalised_or_refused() {
        assert_eq!(normalise(b"./usr//bin/"), Ok("usr/bin".to_owned()));
        assert_eq!(normalise(b"/"), Ok(String::new()));
        assert!(normalise(b"usr/../etc").is_err());
        assert!(normalise(b"\xff").is_err());
        assert!(normalise(&[b'a'; 256]).is_err());
    }

    #[test]
    fn parents_are_made_and_come_first() {
        let mut tree = Tree::new(7);
        tree.insert("a/b/c", directory()).unwrap();
        tree.insert("a-b", directory()).unwrap();
        let paths: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["", "a", "a-b", "a/b", "a/b/c"]);
    }

    #[test]
    fn nothing_goes_below_a_symbolic_link() {
        let mut tree = Tree::new(7);
        tree.insert("bin", symlink("usr/bin")).unwrap();
        assert!(tree.insert("bin/sh", directory()).is_err());
    }

    #[test]
    fn a_directory_cannot_become_a_file() {
        let mut tree = Tree::new(7);
        tree.insert("a/b", directory()).unwrap();
        assert!(tree.insert("a", symlink("x")).is_err());
    }

    #[test]
    fn times_are_clamped_to_the_epoch() {
        let mut tree = Tree::new(5);
        tree.insert("a", directory()).unwrap();
        assert_eq!(tree.get("a").unwrap().mtime, 5);
    }

    #[test]
    fn removal_takes_what_is_below_and_nothing_beside() {
        let mut tree = Tree::new(7);
        tree.insert("a/b", directory()).unwrap();
        tree.insert("ab", directory()).unwrap();
        tree.remove("a").unwrap();
        assert!(tree.get("a/b").is_none());
        assert!(tree.get("ab").is_some());
        assert!(tree.remove("a").is_err());
    }

    #[test]
    fn symbolic_links_are_followed_inside_the_image() {
        let mut tree = Tree::new(7);
        tree.insert("usr/bin/mawk", directory()).unwrap();
        tree.insert("bin", symlink("usr/bin")).unwrap();
        tree.insert("usr/bin/awk", symlink("/etc/alternatives/awk")).unwrap();
        tree.insert("etc/alternatives/awk", symlink("../../bin/mawk")).unwrap();
        tree.insert("loop", symlink("loop")).unwrap();
        assert_eq!(tree.resolve("/bin/awk"), Some("usr/bin/mawk"));
        assert_eq!(tree.resolve("/loop"), None);
        assert_eq!(tree.resolve("/bin/none"), None);
    }

    #[test]
    fn a_hard_link_needs_its_target() {
        let mut tree = Tree::new(7);
        let link = Entry::new(Kind::HardLink("gone".to_owned()), 0o644, 0, 0, 7);
        assert!(tree.insert("a", link).is_err());
    }
}
