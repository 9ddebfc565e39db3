//! The inodes of a mount: lookup counts, identity, and which of them keep a descriptor.
//!
//! A guest may know a million files; a process may not have as many descriptors. Beyond
//! `inode_descriptors` the ones not used for longest are closed, but only when the place they were
//! last seen at still leads to them; they are opened again from there when needed, and are
//! `ESTALE` if the host has moved them meanwhile.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attributes::{self, Found};
use super::mask::Step;
use super::node::{Directory, FileId, Location, Node, Realm};
use super::place;
use crate::{Errno, Event, Inode, Observer};

/// The inodes of a mount.
pub(super) struct NodeTable {
    state: Mutex<State>,
    limit: usize,
    descriptors: usize,
    submounts: bool,
    observer: Observer,
}

#[derive(Default)]
struct State {
    by_inode: HashMap<Inode, Slot>,
    by_id: HashMap<FileId, Inode>,
    next: u64,
    /// Inodes with a descriptor, in the order they will be looked at for closing. May hold
    /// inodes that are gone.
    open: VecDeque<Inode>,
    /// How many nodes were closed and not opened again: while 0 nobody needs care.
    closed: usize,
    told: bool,
}

impl State {
    fn count_known(&mut self, sighting: &Sighting) -> Option<Arc<Node>> {
        let inode = *self.by_id.get(&sighting.found.id)?;
        let slot = self.by_inode.get_mut(&inode)?;
        let same = slot.node.born == sighting.found.born
            && slot.node.kind == sighting.found.kind
            && slot.node.realm == sighting.realm;
        if !same {
            return None;
        }
        slot.lookups = slot.lookups.saturating_add(1);
        Some(Arc::clone(&slot.node))
    }
}

struct Slot {
    node: Arc<Node>,
    lookups: u64,
}

/// What a new node would be.
pub(super) struct Sighting {
    pub(super) found: Found,
    pub(super) realm: Realm,
    pub(super) step: Option<Step>,
    pub(super) location: Option<Location>,
}

impl NodeTable {
    pub(super) fn new(
        root: OwnedFd,
        found: &Found,
        step: Option<Step>,
        (limit, descriptors): (usize, usize),
        submounts: bool,
        observer: Observer,
    ) -> Self {
        let what = (found.kind, found.born);
        let node =
            Node::new((Inode::ROOT, found.id), what, (Realm::Source, step), Arc::new(root), None);
        let mut state = State { next: 2, ..State::default() };
        state.by_id.insert(found.id, Inode::ROOT);
        state.by_inode.insert(Inode::ROOT, Slot { node: Arc::new(node), lookups: 1 });
        let descriptors = descriptors.max(8);
        Self { state: Mutex::new(state), limit, descriptors, submounts, observer }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `ESTALE` for an inode that the guest does not have.
    pub(super) fn get(&self, inode: Inode) -> Result<Arc<Node>, Errno> {
        let state = self.lock();
        state.by_inode.get(&inode).map(|slot| Arc::clone(&slot.node)).ok_or(Errno::ESTALE)
    }

    /// Counts a lookup of a file that is known already.
    pub(super) fn count_known(&self, sighting: &Sighting) -> Option<Arc<Node>> {
        let node = self.lock().count_known(sighting)?;
        if let (Some(location), true) = (&sighting.location, node.inode != Inode::ROOT) {
            node.seen_at(location.clone(), sighting.step);
        }
        Some(node)
    }

    /// Counts a lookup; a file not known yet becomes a node with this descriptor.
    pub(super) fn count(&self, sighting: Sighting, fd: OwnedFd) -> Result<Arc<Node>, Errno> {
        let mut state = self.lock();
        if let Some(node) = state.count_known(&sighting) {
            return Ok(node);
        }
        let Sighting { found, realm, step, location } = sighting;
        if state.by_inode.len() >= self.limit {
            if !std::mem::replace(&mut state.told, true) {
                let event = Event::Limit { what: "inodes of a host directory", limit: self.limit };
                self.observer.report(event);
            }
            return Err(Errno::ENFILE);
        }
        let inode = Inode(state.next);
        state.next += 1;
        let what = (found.kind, found.born);
        let fd = Arc::new(fd);
        let node = Arc::new(Node::new((inode, found.id), what, (realm, step), fd, location));
        // Another file had this identity, and is gone: its inode stays valid, without it.
        state.by_id.insert(found.id, inode);
        state.by_inode.insert(inode, Slot { node: Arc::clone(&node), lookups: 1 });
        state.open.push_back(inode);
        let too_many = state.open.len() > self.descriptors;
        drop(state);
        if too_many {
            self.close_some();
        }
        Ok(node)
    }

    /// Takes back lookups. The root stays; nobody can take back more than was given.
    pub(super) fn forget(&self, inode: Inode, count: u64) {
        if inode == Inode::ROOT {
            return;
        }
        let mut state = self.lock();
        let Some(slot) = state.by_inode.get_mut(&inode) else { return };
        slot.lookups = slot.lookups.saturating_sub(count);
        if slot.lookups > 0 {
            return;
        }
        let gone = state.by_inode.remove(&inode);
        if let Some(slot) = &gone {
            if state.by_id.get(&slot.node.id) == Some(&inode) {
                state.by_id.remove(&slot.node.id);
            }
            if slot.node.fd().is_none() {
                state.closed = state.closed.saturating_sub(1);
            }
        }
        if state.open.len() > 2 * state.by_inode.len() + 64 {
            let State { open, by_inode, .. } = &mut *state;
            open.retain(|inode| by_inode.contains_key(inode));
        }
        drop(state);
        drop(gone);
    }

    /// Only the root is left.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        let root = state.by_inode.remove(&Inode::ROOT);
        let old = std::mem::take(&mut *state);
        state.next = old.next;
        if let Some(root) = root {
            state.by_id.insert(root.node.id, Inode::ROOT);
            state.by_inode.insert(Inode::ROOT, root);
        }
        drop(state);
        drop(old);
    }

    /// How many inodes the guest has, the root among them.
    pub(super) fn len(&self) -> usize {
        self.lock().by_inode.len()
    }

    /// Whether some node has no descriptor, so that removing a name may lose it.
    pub(super) fn any_closed(&self) -> bool {
        self.lock().closed > 0
    }

    /// The node of a file that is about to lose a name gets a descriptor that does not need it.
    pub(super) fn keep(&self, id: FileId, fd: OwnedFd) {
        let mut state = self.lock();
        let Some(inode) = state.by_id.get(&id).copied() else { return };
        let Some(slot) = state.by_inode.get(&inode) else { return };
        if slot.node.fd().is_none() {
            slot.node.set_fd(Some(Arc::new(fd)));
            state.closed = state.closed.saturating_sub(1);
            state.open.push_back(inode);
        }
    }

    /// The descriptor of a node, opened again if need be.
    pub(super) fn fd(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>, Errno> {
        match node.fd() {
            Some(fd) => Ok(fd),
            None => self.open_again(node),
        }
    }

    fn open_again(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>, Errno> {
        // Up to somebody with a descriptor, then down again; no recursion, the guest decides how
        // deep this is.
        let mut way = Vec::new();
        let mut at = Arc::clone(node);
        let mut fd = loop {
            let Location { directory, name } = at.location().ok_or(Errno::ESTALE)?;
            way.push((Arc::clone(&at), name));
            match directory {
                Directory::Storage(fd) => break fd,
                Directory::Node(parent) => match parent.fd() {
                    Some(fd) => break fd,
                    None => at = parent,
                },
            }
        };
        while let Some((node, name)) = way.pop() {
            let opened = match place::open_name(fd.as_fd(), &name, self.submounts) {
                Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => return Err(Errno::ESTALE),
                opened => opened?,
            };
            let found = attributes::of_fd(opened.as_fd())?;
            if found.id != node.id || found.born != node.born || found.kind != node.kind {
                return Err(Errno::ESTALE);
            }
            fd = Arc::new(opened);
            if node.set_fd(Some(Arc::clone(&fd))).is_none() {
                let mut state = self.lock();
                state.closed = state.closed.saturating_sub(1);
                state.open.push_back(node.inode);
            }
        }
        if self.lock().open.len() > self.descriptors {
            self.close_some();
        }
        Ok(fd)
    }

    /// Closes descriptors of nodes that were not used lately and can be found again.
    fn close_some(&self) {
        let (candidates, excess) = {
            let mut state = self.lock();
            let State { open, by_inode, .. } = &mut *state;
            open.retain(|inode| by_inode.contains_key(inode));
            let excess = open.len().saturating_sub(self.descriptors);
            if excess == 0 {
                return;
            }
            // One sweep looks at a bounded number: what was used gets a second round.
            let looked_at = (4 * excess + 32).min(open.len());
            let candidates: Vec<Arc<Node>> = open
                .drain(..looked_at)
                .filter_map(|inode| by_inode.get(&inode).map(|slot| Arc::clone(&slot.node)))
                .collect();
            (candidates, excess + self.descriptors / 16)
        };
        let mut kept = Vec::new();
        let mut closed = 0;
        for node in candidates {
            if closed < excess && !node.take_used() && self.can_be_found(&node) {
                drop(node.set_fd(None));
                closed += 1;
            } else {
                kept.push(node.inode);
            }
        }
        let mut state = self.lock();
        state.closed += closed;
        state.open.extend(kept);
    }

    fn can_be_found(&self, node: &Node) -> bool {
        let Some(Location { directory, name }) = node.location() else { return false };
        let directory = match directory {
            Directory::Storage(fd) => Some(fd),
            Directory::Node(parent) => parent.fd(),
        };
        let found = directory.and_then(|fd| attributes::of_name(fd.as_fd(), &name).ok());
        // Without a time of birth a later file with the same number could not be told apart.
        found.is_some_and(|found| {
            found.id == node.id && found.born.is_some() && found.born == node.born
        })
    }
}
