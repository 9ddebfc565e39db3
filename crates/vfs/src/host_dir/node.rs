//! A file of the host that the guest knows.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::attributes::Found;
use super::mask::Step;
use crate::{Inode, Kind, Name, Time};

/// What identifies a file on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) ino: u64,
}

/// Which of the two trees a node lies in. Names never move between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Realm {
    Source,
    Storage,
}

/// A file of the host that the guest knows.
pub(super) struct Node {
    pub(super) inode: Inode,
    pub(super) id: FileId,
    pub(super) kind: Kind,
    pub(super) realm: Realm,
    /// When the file was made, where the filesystem knows: tells a file from a later one that got
    /// its number.
    pub(super) born: Option<(i64, u32)>,
    place: Mutex<NodePlace>,
    /// Used since the last time somebody looked for descriptors to close.
    used: AtomicBool,
}

struct NodePlace {
    /// `O_PATH`; absent while closed for want of descriptors.
    fd: Option<Arc<OwnedFd>>,
    /// Where it was last seen, to open it again: in a directory's descriptor of its own (mask
    /// storage), or in another node.
    location: Option<Location>,
    step: Option<Step>,
    /// Of its content, when it was opened last, unless it had just been changed.
    opened_with: Option<Stamp>,
}

/// Tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified: Time,
    pub(super) changed: Time,
}

/// A content is only trusted to be the same one when the clock has clearly moved on since its last
/// change: within one tick two changes have the same time.
const SETTLED_SECONDS: i64 = 2;

/// Where a file was last seen.
#[derive(Clone)]
pub(super) struct Location {
    pub(super) directory: Directory,
    pub(super) name: Name,
}

/// A directory to start from.
#[derive(Clone)]
pub(super) enum Directory {
    Node(Arc<Node>),
    Storage(Arc<OwnedFd>),
}

impl Node {
    pub(super) fn new(
        (inode, id): (Inode, FileId),
        (kind, born): (Kind, Option<(i64, u32)>),
        (realm, step): (Realm, Option<Step>),
        fd: Arc<OwnedFd>,
        location: Option<Location>,
    ) -> Self {
        let place = Mutex::new(NodePlace { fd: Some(fd), location, step, opened_with: None });
        Self { inode, id, kind, realm, born, place, used: AtomicBool::new(true) }
    }

    fn place(&self) -> MutexGuard<'_, NodePlace> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fd(&self) -> Option<Arc<OwnedFd>> {
        self.used.store(true, Ordering::Relaxed);
        self.place().fd.clone()
    }

    pub(super) fn set_fd(&self, fd: Option<Arc<OwnedFd>>) -> Option<Arc<OwnedFd>> {
        std::mem::replace(&mut self.place().fd, fd)
    }

    pub(super) fn location(&self) -> Option<Location> {
        self.place().location.clone()
    }

    /// It was seen at `location`. A step is only ever gained: a directory that lay on the way to
    /// a masked name keeps hiding it, wherever the host moves it.
    pub(super) fn seen_at(&self, location: Location, step: Option<Step>) {
        let old = {
            let mut place = self.place();
            if step.is_some() {
                place.step = step;
            }
            place.location.replace(location)
        };
        drop(old);
    }

    pub(super) fn step(&self) -> Option<Step> {
        self.place().step
    }

    /// Whether what the guest has cached of it since it last opened it is still right.
    pub(super) fn unchanged_since_last_open(&self, found: &Found) -> bool {
        let (now, stamp) = (Time::from(SystemTime::now()), found.stamp());
        let settled = stamp.changed.seconds + SETTLED_SECONDS < now.seconds;
        let before = std::mem::replace(&mut self.place().opened_with, settled.then_some(stamp));
        before == Some(stamp)
    }

    /// Whether it was used since the last call.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Node {
    /// Lets go of the chain of parents one by one: a guest can make it deeper than a stack.
    fn drop(&mut self) {
        let mut next = self.place().location.take();
        while let Some(Location { directory: Directory::Node(parent), .. }) = next {
            next = Arc::into_inner(parent).and_then(|parent| parent.place().location.take());
        }
    }
}
