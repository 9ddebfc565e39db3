//! The files of an image: one sorted map from path to file, and the files, so that several paths
//! can be one file (hard links) and keep being it when one of them is replaced.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::limits::Limits;
use crate::name::{NameProblem, parent_of};
use crate::sparse::Piece;

/// Bytes that an entry takes in memory beside its texts, about.
const ENTRY: u64 = 200;

/// Why a member of a layer's archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// The name.
    #[error(transparent)]
    Name(#[from] NameProblem),
    /// The target of a link.
    #[error("it is a link, and of its target {0}")]
    Target(NameProblem),
    /// The archive ends within it.
    #[error("the archive ends in the middle of it")]
    Truncated,
    /// The header is damaged, or a number in it is.
    #[error("its header is damaged")]
    Header,
    /// A pax header or long name of more than 1 MiB.
    #[error("its header is too long")]
    LongHeader,
    /// A sparse file of a form that is not read.
    #[error("it is a sparse file in a form that is not supported")]
    Sparse,
    /// A type that is none of POSIX's.
    #[error("its type is {0}, which is not supported")]
    Type(u8),
    /// A directory above it is something else, such as a link.
    #[error("/{0} above it is not a directory: nothing is followed")]
    Through(String),
    /// The root is something else than a directory.
    #[error("the root must be a directory")]
    Root,
    /// A hard link to nothing.
    #[error("it is a hard link to something that is not there")]
    Dangling,
    /// A hard link to a directory.
    #[error("it is a hard link to a directory")]
    DirectoryLink,
    /// A hard link to its own name.
    #[error("it is a hard link to itself")]
    SelfLink,
    /// `.wh.` and no name, or a name that is reserved.
    #[error("it is a whiteout of nothing that could be there")]
    Whiteout,
    /// All layers have too many members.
    #[error("the image has more than {0} entries")]
    TooMany(u64),
    /// All files together are too large; holes count.
    #[error("the files in the image have more than {0} bytes")]
    TooLarge(u64),
    /// Names and attributes take too much memory.
    #[error("the names and attributes in the image have more than {0} bytes")]
    TooMuch(u64),
}

/// Where a file's bytes lie: in the uncompressed archive of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Counted from the lowest layer, 0.
    pub layer: usize,
    /// In the archive; a file with holes has pieces instead.
    pub offset: u64,
    /// Of the file.
    pub size: u64,
    /// Of a file with holes, all that is none, in order.
    pub pieces: Option<Arc<[Piece]>>,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Holds others.
    Directory,
    /// Holds bytes.
    File(Content),
    /// Leads to this text, which is the guest's to follow.
    Symlink(String),
    /// A character device.
    Character {
        /// Of the driver.
        major: u32,
        /// Of the device.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Of the driver.
        major: u32,
        /// Of the device.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A file with its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `0o7777` at most.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
    /// Full names such as `security.capability`.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// How much more may be taken in.
#[derive(Debug, Clone)]
pub struct Budget {
    entries: u64,
    metadata: u64,
    content: u64,
    limits: Limits,
}

impl Budget {
    /// All that the limits allow.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            entries: limits.entries,
            metadata: limits.metadata_bytes,
            content: limits.image_bytes,
            limits: limits.clone(),
        }
    }

    /// One more entry, with so many bytes of texts and of content.
    pub(crate) fn take(&mut self, metadata: usize, content: u64) -> Result<(), EntryProblem> {
        let limits = &self.limits;
        let entries = self.entries.checked_sub(1);
        self.entries = entries.ok_or(EntryProblem::TooMany(limits.entries))?;
        let used = (metadata as u64).saturating_add(ENTRY);
        let metadata = self.metadata.checked_sub(used);
        self.metadata = metadata.ok_or(EntryProblem::TooMuch(limits.metadata_bytes))?;
        let content = self.content.checked_sub(content);
        self.content = content.ok_or(EntryProblem::TooLarge(limits.image_bytes))?;
        Ok(())
    }
}

/// The files of an image. Paths have no leading slash; the empty path is the root.
#[derive(Debug, Clone)]
pub struct Tree {
    names: BTreeMap<String, usize>,
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = directory();
        Self { names: BTreeMap::from([(String::new(), 0)]), nodes: vec![root] }
    }
}

/// A directory that no layer has said anything about.
fn directory() -> Node {
    Node { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

impl Tree {
    /// Paths in order, directories before what they hold. Two paths with the same number are one
    /// file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize, &Node)> {
        self.names.iter().map(|(path, number)| (path.as_str(), *number, &self.nodes[*number]))
    }

    /// The file at a path; links are not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.names.get(path).map(|number| &self.nodes[*number])
    }

    fn is_directory(&self, path: &str) -> bool {
        self.get(path).is_some_and(|node| node.kind == Kind::Directory)
    }

    /// Add a file, in place of what was at its path; a directory in place of a directory keeps
    /// what that holds. Directories above it that nobody has given are made.
    pub(crate) fn insert(&mut self, path: &str, node: Node) -> Result<(), EntryProblem> {
        let keeps = node.kind == Kind::Directory && self.is_directory(path);
        if path.is_empty() {
            if node.kind != Kind::Directory {
                return Err(EntryProblem::Root);
            }
        } else {
            self.make_parents(path)?;
        }
        if !keeps {
            self.remove(path);
        }
        self.place(path, node);
        Ok(())
    }

    /// Give a file another name.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), EntryProblem> {
        if path == target {
            return Err(EntryProblem::SelfLink);
        }
        self.check_parents(target)?;
        let number = *self.names.get(target).ok_or(EntryProblem::Dangling)?;
        if self.nodes[number].kind == Kind::Directory {
            return Err(EntryProblem::DirectoryLink);
        }
        if path.is_empty() {
            return Err(EntryProblem::Root);
        }
        self.make_parents(path)?;
        // What is replaced may hold the target.
        self.remove(path);
        if !self.names.contains_key(target) {
            return Err(EntryProblem::Dangling);
        }
        self.names.insert(path.to_owned(), number);
        Ok(())
    }

    /// Remove a path and all below it, if it is there.
    pub(crate) fn remove(&mut self, path: &str) {
        if path.is_empty() {
            return self.clear("");
        }
        self.names.remove(path);
        self.clear(path);
    }

    /// Remove all below a path.
    pub(crate) fn clear(&mut self, path: &str) {
        // '0' is the character after '/'.
        let (from, to) = if path.is_empty() {
            (Bound::Excluded(String::new()), Bound::Unbounded)
        } else {
            (Bound::Included(format!("{path}/")), Bound::Excluded(format!("{path}0")))
        };
        let below: Vec<String> =
            self.names.range((from, to)).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.names.remove(&path);
        }
    }

    /// That all above a path are directories, as far as they are there.
    pub(crate) fn check_parents(&self, path: &str) -> Result<(), EntryProblem> {
        let mut at = path;
        while let Some(parent) = parent_of(at) {
            if self.names.contains_key(parent) && !self.is_directory(parent) {
                return Err(EntryProblem::Through(crate::name::shown_name(parent.as_bytes())));
            }
            at = parent;
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &str) -> Result<(), EntryProblem> {
        self.check_parents(path)?;
        let mut missing = Vec::new();
        let mut at = path;
        while let Some(parent) = parent_of(at) {
            if self.names.contains_key(parent) {
                break;
            }
            missing.push(parent);
            at = parent;
        }
        for parent in missing {
            self.place(parent, directory());
        }
        Ok(())
    }

    fn place(&mut self, path: &str, node: Node) {
        self.nodes.push(node);
        self.names.insert(path.to_owned(), self.nodes.len() - 1);
    }
}
