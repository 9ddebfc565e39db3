//! One file of the tree, as the adapter knows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::RwLock;

use super::adapter::now;
use super::orphan::Orphan;
use super::types::FileStat;
use crate::{Attr, Inode, Kind, Name, Time};

/// Numbers that the adapter gives lie above this, away from those callbacks give, and below what
/// a JavaScript number holds exactly.
const OWN_NUMBERS: u64 = 1 << 51;

/// Between a lookup and the open that it was for.
const JUST_NOW: Duration = Duration::from_millis(5);

/// What is shown where a callback leaves it out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) permissions: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// First sight, or the guest's last write.
    pub(super) modified: Time,
}

/// One file of the tree.
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Where it is; none: unlinked. More than one: hard links.
    pub(super) names: Vec<(Inode, Name)>,
    /// Known entries: a directory stays known while it has any.
    pub(super) children: usize,
    pub(super) lookups: u64,
    pub(super) opens: usize,
    /// The number a callback gave, where it is this node's alone.
    pub(super) ino: Option<u64>,
    pub(super) defaults: Defaults,
    pub(super) orphan: Option<Arc<Orphan>>,
    /// Held shared while the content is written, alone while the last name goes.
    pub(super) gate: Arc<RwLock<()>>,
    /// What the last stat said about its content; `None` without a size.
    pub(super) seen: Option<(u64, Option<Time>)>,
    /// When it said so.
    pub(super) noted: Option<Instant>,
    /// What it had said when the file was opened last.
    pub(super) opened_with: Option<(u64, Option<Time>)>,
    /// A directory that hands its group down: which.
    pub(super) group: Option<u32>,
    /// Waits to be dropped.
    pub(super) idle: bool,
}

impl Node {
    pub(super) fn new(kind: Kind, defaults: Defaults) -> Self {
        Self {
            kind,
            names: Vec::new(),
            children: 0,
            lookups: 0,
            opens: 0,
            ino: None,
            defaults,
            orphan: None,
            gate: Arc::default(),
            seen: None,
            noted: None,
            opened_with: None,
            group: None,
            idle: false,
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.lookups > 0 || self.opens > 0 || self.children > 0
    }

    /// Whether this is what a stat told of, as far as numbers tell.
    pub(super) fn may_be(&self, stat: &FileStat) -> bool {
        let renumbered = matches!((self.ino, stat.ino), (Some(old), Some(new)) if old != new);
        self.kind == stat.kind && !renumbered
    }

    /// Whether the guest's cached data is right, by what was last told of the file.
    pub(super) fn keeps_cache(&self) -> bool {
        // What was changed a moment ago may change again without its time telling.
        let settled = |time: Time| time.seconds < now().seconds - 2;
        self.seen.is_some_and(|(_, time)| time.is_some_and(settled))
            && self.opened_with == self.seen
    }

    /// Whether it must be asked for again before that is believed: what an open settles, it settles
    /// for as long as the file is open. A guest that believes nothing has looked up just before.
    pub(super) fn may_be_outdated(&self) -> bool {
        self.orphan.is_none()
            && self.keeps_cache()
            && self.noted.is_none_or(|noted| noted.elapsed() > JUST_NOW)
    }

    /// Remembers what a stat said.
    pub(super) fn note(&mut self, stat: &FileStat) {
        self.noted = Some(Instant::now());
        self.seen = stat.size.map(|size| (size, stat.modified));
        let permissions = stat.permissions.unwrap_or(self.defaults.permissions);
        let hands_down = self.kind == Kind::Directory && permissions & 0o2000 != 0;
        self.group = hands_down.then_some(stat.gid.unwrap_or(self.defaults.gid));
    }

    /// What the guest sees.
    pub(super) fn attr(&self, inode: Inode, stat: &FileStat) -> Attr {
        let size = stat.size.unwrap_or(0);
        let modified = stat.modified.unwrap_or(self.defaults.modified);
        let names = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let links = if self.kind == Kind::Directory { 2 } else { names.max(1) };
        Attr {
            ino: self.ino.unwrap_or(OWN_NUMBERS + inode.0),
            kind: self.kind,
            permissions: stat.permissions.unwrap_or(self.defaults.permissions),
            size,
            blocks: stat.allocated.unwrap_or(size).div_ceil(512),
            nlink: stat.nlink.unwrap_or(links),
            uid: stat.uid.unwrap_or(self.defaults.uid),
            gid: stat.gid.unwrap_or(self.defaults.gid),
            rdev: 0,
            block_size: 4096,
            accessed: stat.accessed.unwrap_or(modified),
            modified,
            changed: stat.changed.unwrap_or(modified),
        }
    }

    /// The same for a file that has no name any more.
    pub(super) fn orphan_attr(&self, inode: Inode, orphan: &Orphan) -> Attr {
        let (size, modified) = orphan.size_and_time();
        let mut stat = FileStat::of(self.kind);
        stat.size = Some(size);
        stat.modified = Some(modified);
        stat.nlink = Some(0);
        self.attr(inode, &stat)
    }
}
