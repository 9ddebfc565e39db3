//! The part of the tree that is known: inodes, names, lookup counts.
//!
//! A node lives while the guest has lookups or open handles of it or knows something below it.
//! After that it is remembered for a while, so that numbers and times of first sight stay put.

use std::collections::{HashMap, VecDeque};

use super::node::{Defaults, Node};
use super::path::FilePath;
use super::types::FileStat;
use crate::{Errno, Inode, Kind, Name};

/// A path longer than this is refused (`ENAMETOOLONG`): the guest can nest without end.
const PATH_MAX: usize = 65_536;

/// The part of the tree that is known.
pub(super) struct Tree {
    nodes: HashMap<Inode, Node>,
    entries: HashMap<(Inode, Name), Inode>,
    by_ino: HashMap<u64, Inode>,
    /// In the order they were left.
    idle: VecDeque<Inode>,
    next: u64,
    limit: usize,
    remembered: usize,
}

impl Tree {
    pub(super) fn new(root: Defaults, limit: usize, remembered: usize) -> Self {
        let mut root = Node::new(Kind::Directory, root);
        root.lookups = 1;
        Self {
            nodes: HashMap::from([(Inode::ROOT, root)]),
            entries: HashMap::new(),
            by_ino: HashMap::new(),
            idle: VecDeque::new(),
            next: 2,
            limit,
            remembered,
        }
    }

    pub(super) fn clear(&mut self) {
        let Some(mut root) = self.nodes.remove(&Inode::ROOT) else { return };
        (root.children, root.opens) = (0, 0);
        self.nodes.clear();
        self.entries.clear();
        self.by_ino.clear();
        self.idle.clear();
        self.nodes.insert(Inode::ROOT, root);
    }

    /// How many nodes the guest has, the root among them.
    pub(super) fn used(&self) -> usize {
        let held = |node: &&Node| node.lookups > 0 || node.opens > 0;
        self.nodes.values().filter(held).count()
    }

    pub(super) fn get(&self, inode: Inode) -> Result<&Node, Errno> {
        self.nodes.get(&inode).ok_or(Errno::ESTALE)
    }

    pub(super) fn get_mut(&mut self, inode: Inode) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&inode).ok_or(Errno::ESTALE)
    }

    pub(super) fn child(&self, parent: Inode, name: &Name) -> Option<Inode> {
        self.entries.get(&(parent, name.clone())).copied()
    }

    /// Where a node is: by the first of its names that leads there. `ESTALE` without one.
    pub(super) fn path(&self, inode: Inode) -> Result<FilePath, Errno> {
        if inode == Inode::ROOT {
            return Ok(FilePath::root());
        }
        self.named(inode).map(|(path, _, _)| path)
    }

    /// The same, and the name.
    fn named(&self, inode: Inode) -> Result<(FilePath, Inode, &Name), Errno> {
        let mut refused = Errno::ESTALE;
        for (parent, name) in &self.get(inode)?.names {
            match self.path_by(*parent, name) {
                Ok(path) => return Ok((path, *parent, name)),
                Err(errno) => refused = errno,
            }
        }
        Err(refused)
    }

    /// Only a file that is no directory has more names than one.
    fn path_by(&self, parent: Inode, name: &Name) -> Result<FilePath, Errno> {
        let mut names = Vec::new();
        let mut length = 0;
        let mut next = Some((parent, name));
        while let Some((parent, name)) = next {
            length += name.as_bytes().len() + 1;
            if length > PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            names.push(name);
            next = match parent {
                Inode::ROOT => None,
                parent => {
                    let (above, name) = self.get(parent)?.names.first().ok_or(Errno::ESTALE)?;
                    Some((*above, name))
                }
            };
        }
        Ok(FilePath::of_names(names.into_iter().rev()))
    }

    /// Nothing is at `path`, which led to `inode` when it was asked for: the name that it ended
    /// in is gone where the node has others, or has moved meanwhile. `ESTALE` when there is no
    /// other way to the node; the last name stays until a lookup misses it, since what the owner
    /// removed may be on its way back.
    pub(super) fn missed(&mut self, inode: Inode, path: &FilePath) -> Result<(), Errno> {
        if inode == Inode::ROOT {
            return Err(Errno::ENOENT);
        }
        let (now, parent, name) = self.named(inode)?;
        if now != *path {
            return Ok(());
        }
        if self.get(inode)?.names.len() == 1 {
            return Err(Errno::ESTALE);
        }
        let name = name.clone();
        self.detach(parent, &name);
        Ok(())
    }

    /// A name was just seen to lead to its node, which others may not do any more.
    fn confirm(&mut self, parent: Inode, name: &Name, inode: Inode) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        let is_it = |known: &(Inode, Name)| known.0 == parent && known.1 == *name;
        if let Some(at) = node.names.iter().position(is_it) {
            node.names[..=at].rotate_right(1);
        }
    }

    pub(super) fn path_of(&self, parent: Inode, name: &Name) -> Result<FilePath, Errno> {
        if self.get(parent)?.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.path(parent)?.join(name))
    }

    /// The node of what a callback told about a name; the flag says that it gave the number of
    /// another file. Counts nothing.
    pub(super) fn enter(
        &mut self,
        parent: Inode,
        name: &Name,
        stat: &FileStat,
        defaults: Defaults,
    ) -> Result<(Inode, bool), Errno> {
        self.get(parent)?;
        if let Some(inode) = self.child(parent, name) {
            let node = self.get(inode)?;
            if node.may_be(stat) {
                self.confirm(parent, name, inode);
                self.note(inode, stat);
                return Ok((inode, false));
            }
            // Something else took its place on the host side.
            self.detach(parent, name);
        }
        let mut number_taken = false;
        if let Some(ino) = stat.ino
            && let Some(other) = self.by_ino.get(&ino).copied()
        {
            let linked = stat.kind != Kind::Directory && stat.nlink.is_some_and(|nlink| nlink > 1);
            if linked && self.get(other)?.kind == stat.kind {
                self.attach(parent, name, other)?;
                self.confirm(parent, name, other);
                self.note(other, stat);
                return Ok((other, false));
            }
            number_taken = true;
        }
        let inode = self.add(parent, name, stat.kind, defaults)?;
        if let (Some(ino), false) = (stat.ino, number_taken) {
            self.by_ino.insert(ino, inode);
            self.get_mut(inode)?.ino = Some(ino);
        }
        self.note(inode, stat);
        Ok((inode, number_taken))
    }

    fn note(&mut self, inode: Inode, stat: &FileStat) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.note(stat);
        }
    }

    fn add(
        &mut self,
        parent: Inode,
        name: &Name,
        kind: Kind,
        defaults: Defaults,
    ) -> Result<Inode, Errno> {
        if self.nodes.len() >= self.limit {
            self.drop_idle(self.limit / 16);
        }
        if self.nodes.len() >= self.limit {
            return Err(Errno::ENFILE);
        }
        let inode = Inode(self.next);
        self.next += 1;
        self.nodes.insert(inode, Node::new(kind, defaults));
        self.attach(parent, name, inode)?;
        Ok(inode)
    }

    /// Gives a node a name; what had that name loses it.
    pub(super) fn attach(&mut self, parent: Inode, name: &Name, inode: Inode) -> Result<(), Errno> {
        self.get(inode)?;
        self.get_mut(parent)?.children += 1;
        if self.entries.contains_key(&(parent, name.clone())) {
            self.detach(parent, name);
        }
        self.entries.insert((parent, name.clone()), inode);
        self.get_mut(inode)?.names.push((parent, name.clone()));
        Ok(())
    }

    /// A name is gone; the node it led to.
    pub(super) fn detach(&mut self, parent: Inode, name: &Name) -> Option<Inode> {
        let inode = self.entries.remove(&(parent, name.clone()))?;
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.names.retain(|(at, known)| (*at, known) != (parent, name));
        }
        self.left(inode);
        self.lost_child(parent);
        Some(inode)
    }

    fn lost_child(&mut self, parent: Inode) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
        }
        self.left(parent);
    }

    /// Moves a name, replacing what is at the new one.
    pub(super) fn rename(&mut self, from: (Inode, &Name), to: (Inode, &Name)) {
        if let Some(inode) = self.entries.get(&(from.0, from.1.clone())).copied() {
            if self.entries.get(&(to.0, to.1.clone())) == Some(&inode) {
                // Two names of one file: rename(2) does nothing.
                return;
            }
            // Counted as used meanwhile, so that losing its name does not drop it.
            self.count(inode);
            self.detach(from.0, from.1);
            let _ = self.attach(to.0, to.1, inode);
            self.forget(inode, 1);
        } else {
            self.detach(to.0, to.1);
        }
    }

    pub(super) fn exchange(&mut self, one: (Inode, &Name), two: (Inode, &Name)) {
        let take = |tree: &mut Self, at: (Inode, &Name)| {
            let inode = tree.child(at.0, at.1)?;
            tree.count(inode);
            tree.detach(at.0, at.1)
        };
        let (first, second) = (take(self, one), take(self, two));
        for (inode, to) in [(first, two), (second, one)] {
            if let Some(inode) = inode {
                let _ = self.attach(to.0, to.1, inode);
                self.forget(inode, 1);
            }
        }
    }

    /// One more lookup.
    pub(super) fn count(&mut self, inode: Inode) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.lookups = node.lookups.saturating_add(1);
            node.idle = false;
        }
    }

    /// Takes lookups back; the root keeps its own.
    pub(super) fn forget(&mut self, inode: Inode, count: u64) {
        if inode == Inode::ROOT {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.left(inode);
    }

    pub(super) fn opened(&mut self, inode: Inode) -> Result<(), Errno> {
        self.get_mut(inode)?.opens += 1;
        Ok(())
    }

    pub(super) fn closed(&mut self, inode: Inode) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.opens = node.opens.saturating_sub(1);
            if node.opens == 0 {
                node.orphan = None;
            }
        }
        self.left(inode);
    }

    /// A node that is not used any more is remembered, or dropped when nothing leads to it.
    fn left(&mut self, inode: Inode) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        if node.is_used() || inode == Inode::ROOT {
            return;
        }
        if node.names.is_empty() {
            self.remove(inode);
        } else if !std::mem::replace(&mut node.idle, true) {
            self.idle.push_back(inode);
            if self.idle.len() > self.remembered {
                self.drop_idle(1);
            }
        }
    }

    /// Drops up to `count` nodes that are only remembered.
    fn drop_idle(&mut self, count: usize) {
        let mut dropped = 0;
        while dropped < count {
            let Some(inode) = self.idle.pop_front() else { return };
            if self.nodes.get(&inode).is_some_and(|node| node.idle && !node.is_used()) {
                self.remove(inode);
            }
            dropped += 1;
        }
    }

    fn remove(&mut self, inode: Inode) {
        let mut unused = vec![inode];
        while let Some(inode) = unused.pop() {
            let Some(node) = self.nodes.remove(&inode) else { continue };
            if let Some(ino) = node.ino {
                self.by_ino.remove(&ino);
            }
            for (parent, name) in node.names {
                self.entries.remove(&(parent, name));
                let Some(above) = self.nodes.get_mut(&parent) else { continue };
                above.children = above.children.saturating_sub(1);
                if above.is_used() || parent == Inode::ROOT {
                    continue;
                }
                if above.names.is_empty() {
                    unused.push(parent);
                } else if !std::mem::replace(&mut above.idle, true) {
                    self.idle.push_back(parent);
                }
            }
        }
    }
}
