//! The adapter's state, and the steps its operations share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::answers::Checker;
use super::listing::OpenDirectory;
use super::node::Defaults;
use super::orphan::Orphan;
use super::path::FilePath;
use super::tree::Tree;
use super::types::FileStat;
use super::{Callbacks, Features};
use crate::handle_table::HandleTable;
use crate::{CacheTimes, Caller, Entry, Errno, Event, Inode, Kind, Name, Observer, Opened, Time};

/// How a callback filesystem is served.
#[derive(Clone, Copy, Debug)]
pub struct CallbackOptions {
    /// How long the guest believes answers: short, since it cannot be told of changes.
    pub cache: CacheTimes,
    /// How long a callback may take.
    pub deadline: Duration,
    /// Who owns what callbacks give no owner for.
    pub owner: (u32, u32),
    /// Refuse every change, whatever the callbacks can do.
    pub read_only: bool,
    /// Files known at a time.
    pub nodes: usize,
    /// Files that are remembered when the guest has forgotten them.
    pub remembered: usize,
    /// Open files and directories.
    pub handles: usize,
    /// Entries of one directory.
    pub entries: usize,
    /// Bytes of one open file that has lost its last name.
    pub unlinked_bytes: u64,
}

impl Default for CallbackOptions {
    fn default() -> Self {
        Self {
            cache: CacheTimes::of(Duration::from_millis(100)),
            deadline: Duration::from_secs(30),
            owner: (0, 0),
            read_only: false,
            nodes: 1 << 20,
            remembered: 1 << 16,
            handles: 1 << 16,
            entries: 1 << 20,
            unlinked_bytes: 64 << 20,
        }
    }
}

/// What is held for the guest at the moment: for metrics, and for tests of leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallbackHeld {
    /// Files it knows, the root among them.
    pub nodes: usize,
    /// Open files.
    pub files: usize,
    /// Open directories.
    pub directories: usize,
}

/// Callbacks by path as a filesystem by inode.
pub struct CallbackFs<C> {
    pub(super) callbacks: C,
    pub(super) features: Features,
    pub(super) options: CallbackOptions,
    pub(super) check: Checker,
    pub(super) files: HandleTable<()>,
    pub(super) directories: HandleTable<OpenDirectory>,
    tree: Mutex<Tree>,
}

impl<C: Callbacks> CallbackFs<C> {
    /// Serves `callbacks`.
    pub fn new(callbacks: C, options: CallbackOptions, observer: Observer) -> Self {
        let (uid, gid) = options.owner;
        let root = Defaults { permissions: 0o755, uid, gid, modified: now() };
        Self {
            features: callbacks.features(),
            callbacks,
            options,
            check: Checker { observer: observer.clone() },
            files: HandleTable::new(options.handles, observer.clone()),
            directories: HandleTable::new(options.handles, observer),
            tree: Mutex::new(Tree::new(root, options.nodes, options.remembered)),
        }
    }

    /// What is held for the guest at the moment.
    pub fn held(&self) -> CallbackHeld {
        CallbackHeld {
            nodes: self.tree().used(),
            files: self.files.len(),
            directories: self.directories.len(),
        }
    }

    /// Something at or below `path` was changed on the host side: what the guest caches of its
    /// data ends at the next open, and the owner hears of it, to have the guest notice at once.
    pub fn changed(&self, path: &FilePath) {
        let mut tree = self.tree();
        let mut at = Some(Inode::ROOT);
        for name in path.names() {
            at = at.and_then(|at| tree.child(at, &Name::new(name).ok()?));
        }
        if let Some(node) = at.and_then(|at| tree.get_mut(at).ok()) {
            node.opened_with = None;
        }
        drop(tree);
        self.check.observer.report(Event::Changed { path: path.as_bytes().to_vec() });
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `errno` unless there is such a callback.
    pub(super) fn need(&self, feature: Features, errno: Errno) -> Result<(), Errno> {
        if self.features.has(feature) { Ok(()) } else { Err(errno) }
    }

    /// What is shown of a new file where its callback leaves things out.
    pub(super) fn defaults(&self, kind: Kind, made: Option<(Caller, u32)>) -> Defaults {
        let (uid, gid) = match made {
            Some((caller, _)) => (caller.uid, caller.gid),
            None => self.options.owner,
        };
        let permissions = match (made, kind) {
            (_, Kind::Symlink) => 0o777,
            (Some((_, permissions)), _) => permissions & 0o7777,
            (None, Kind::Directory) => 0o755,
            (None, _) => 0o644,
        };
        Defaults { permissions, uid, gid, modified: now() }
    }

    pub(super) async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        let stat = self.callbacks.stat(path).await?;
        self.check.stat("stat", path, stat)
    }

    /// Counts a lookup of what a callback told of a name.
    pub(super) fn enter(
        &self,
        parent: Inode,
        name: &Name,
        stat: &FileStat,
        made: Option<(Caller, u32)>,
    ) -> Result<Entry, Errno> {
        let mut tree = self.tree();
        let defaults = self.defaults(stat.kind, made);
        let (inode, number_taken) = tree.enter(parent, name, stat, defaults).inspect_err(|e| {
            if *e == Errno::ENFILE {
                let (what, limit) = ("files of a callback filesystem", self.options.nodes);
                self.check.observer.report(Event::Limit { what, limit });
            }
        })?;
        tree.count(inode);
        let attr = tree.get(inode)?.attr(inode, stat);
        let path = number_taken.then(|| tree.path(inode)).transpose()?;
        drop(tree);
        if let Some(path) = path {
            let _ = self.check.wrong("stat", &path, "Two files have one inode number");
        }
        let (entry_ttl, attr_ttl) = (self.options.cache.entry, self.options.cache.attr);
        Ok(Entry { inode, attr, attr_ttl, entry_ttl })
    }

    /// The content of an open file without a name.
    pub(super) fn orphan(&self, inode: Inode) -> Result<Option<Arc<Orphan>>, Errno> {
        Ok(self.tree().get(inode)?.orphan.clone())
    }

    /// Runs `work` where `inode` is. Where nothing is there any more, though it is a file with other
    /// names, they are tried; without one it is `ESTALE`, and the guest looks its path up again.
    pub(super) async fn by_name<T, F>(
        &self,
        inode: Inode,
        work: impl Fn(FilePath) -> F,
    ) -> Result<T, Errno>
    where
        F: Future<Output = Result<T, Errno>>,
    {
        loop {
            let path = self.tree().path(inode)?;
            match work(path.clone()).await {
                Err(Errno::ENOENT) => self.tree().missed(inode, &path)?,
                result => return result,
            }
        }
    }

    /// An open handle, counted in the tree.
    pub(super) fn open_counted(&self, inode: Inode) -> Result<Opened, Errno> {
        let mut tree = self.tree();
        tree.get(inode)?;
        let handle = self.files.insert(inode, ())?;
        tree.opened(inode)?;
        let node = tree.get_mut(inode)?;
        let direct = node.seen.is_none() && node.orphan.is_none();
        let keep_cache = node.keeps_cache();
        node.opened_with = node.seen;
        Ok(Opened { handle, direct, keep_cache })
    }

    /// The guest wrote: where the callback tells no time, it is now.
    pub(super) fn touched(&self, inode: Inode, size_at_least: u64) {
        if let Ok(node) = self.tree().get_mut(inode) {
            node.defaults.modified = now();
            if let Some((size, time)) = &mut node.seen {
                (*size, *time) = ((*size).max(size_at_least), None);
            }
        }
    }

    /// Before the last name of an open file goes: takes its content, since no path will lead to
    /// it. The caller holds the node's gate.
    pub(super) async fn content_before_unlink(
        &self,
        path: &FilePath,
    ) -> Result<(Arc<Orphan>, FileStat), Errno> {
        let stat = self.stat(path).await?;
        let limit = self.options.unlinked_bytes;
        let mut content = Vec::new();
        loop {
            let at = content.len() as u64;
            let wanted = 1024 * 1024;
            let bytes = self.callbacks.read(path, at, wanted).await?;
            self.check.at_most("read", path, bytes.len(), wanted)?;
            if bytes.is_empty() {
                break;
            }
            content.extend_from_slice(&bytes);
            if content.len() as u64 > limit {
                let what = "bytes of an open file without a name";
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                self.check.observer.report(Event::Limit { what, limit });
                return Err(Errno::EBUSY);
            }
            if stat.size.is_some_and(|size| content.len() as u64 >= size) {
                break;
            }
        }
        Ok((Arc::new(Orphan::new(content, limit)), stat))
    }
}

pub(super) fn now() -> Time {
    SystemTime::now().into()
}
