//! Following what the host changes in a source, by inotify(7).
//!
//! ```text
//! inotify ─► thread: paths of 50 ms, each once ─► not the guest's own doing ─► changed(path)
//! ```
//! A thread of its own, so that no directory, however large, holds up the data path. It ends with
//! its [`HostWatcher`]. Masked paths, other filesystems, and what symlinks lead to are not followed.

use std::collections::{BTreeSet, HashMap};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno as System;

use super::HostDir;
use super::attributes;
use super::guest_changes::GuestChanges;
use super::proc_fd::ProcFd;
use crate::{Event, Name, Observer};

/// Changes are told this long after the first of them, each path once.
const GATHER: Duration = Duration::from_millis(50);
/// With so many paths they are told at once.
const GATHER_MAX: usize = 1024;
/// How often telling is put off for a guest that is changing something.
const PUT_OFF_MAX: u32 = 10;
/// Directories that are followed. Another limit is the system's, `fs.inotify.max_user_watches`.
const WATCHES: usize = 16_384;
/// After lost notifications the tree is looked at again, at most this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::EXCL_UNLINK)
    .union(WatchFlags::ONLYDIR);
const NAMES: ReadFlags = ReadFlags::CREATE
    .union(ReadFlags::DELETE)
    .union(ReadFlags::MOVED_FROM)
    .union(ReadFlags::MOVED_TO);

/// Follows the changes of a host directory while it lives.
#[derive(Debug)]
pub struct HostWatcher {
    /// Closed by the drop: that ends the thread.
    _alive: UnixStream,
}

impl HostWatcher {
    /// Follows `of`; [`Event::Changed`] tells of each change that the guest did not make, and
    /// [`Event::Watch`] of what is missed. `begins` is what the thread does first.
    ///
    /// # Errors
    /// When there can be no inotify instance or thread.
    pub fn start(of: &HostDir, observer: Observer, begins: fn()) -> std::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let root = of.nodes.get(crate::Inode::ROOT).and_then(|node| of.nodes.fd(&node));
        let root = root.map_err(|errno| std::io::Error::from_raw_os_error(errno.number()))?;
        let device = attributes::of_fd(root.as_fd()).map(|found| found.id.device);
        let own = Arc::clone(of.guest_changes.get_or_init(Arc::default));
        let masked = of.options.mask.paths.iter();
        let (alive, ended) = UnixStream::pair()?;
        let following = Following {
            inotify,
            ended,
            root,
            device: device.unwrap_or(0),
            masked: masked.map(|path| path.as_os_str().as_encoded_bytes().to_vec()).collect(),
            own: Arc::downgrade(&own),
            observer,
            directories: HashMap::new(),
            changed: BTreeSet::new(),
            put_off: 0,
            found: HashMap::new(),
            told: Told::default(),
            looked: Instant::now(),
        };
        std::thread::Builder::new().name("mount-watch".into()).spawn(move || {
            begins();
            following.run();
        })?;
        Ok(Self { _alive: alive })
    }
}

/// Which problems the owner has heard of: each once.
#[derive(Default)]
struct Told {
    full: bool,
    lost: bool,
}

struct Following {
    inotify: OwnedFd,
    ended: UnixStream,
    root: Arc<OwnedFd>,
    device: u64,
    masked: BTreeSet<Vec<u8>>,
    own: Weak<GuestChanges>,
    observer: Observer,
    /// Relative to the root, which is empty; by watch descriptor.
    directories: HashMap<i32, Vec<u8>>,
    changed: BTreeSet<Vec<u8>>,
    /// How often telling was put off because the guest is changing something.
    put_off: u32,
    /// What was found in new directories, by the directory: of interest unless the guest made or
    /// moved it.
    found: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    told: Told,
    looked: Instant,
}

impl Following {
    fn run(mut self) {
        self.follow(Vec::new(), false);
        let mut tell_at = None;
        loop {
            let wait = tell_at.map(|at: Instant| at.saturating_duration_since(Instant::now()));
            if !self.wait(wait) {
                return;
            }
            self.read();
            if self.changed.is_empty() {
                tell_at = None;
                continue;
            }
            let at = *tell_at.get_or_insert_with(|| Instant::now() + GATHER);
            if Instant::now() >= at {
                self.tell();
                let again = (!self.changed.is_empty()).then(|| Instant::now() + GATHER);
                tell_at = again;
            }
        }
    }

    /// Until there is something to read, or the time has passed; `false` at the end.
    fn wait(&self, time: Option<Duration>) -> bool {
        let mut of = [
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
        ];
        let time = time.map_or(PollTimeout::NONE, |time| {
            // Rounded up, or the last millisecond is spent spinning.
            PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut of, time) {
            Ok(_) => !of[1].any().unwrap_or(true),
            Err(nix::errno::Errno::EINTR) => true,
            Err(_) => false,
        }
    }

    fn has_ended(&self) -> bool {
        let mut of = [PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        poll(&mut of, PollTimeout::ZERO).is_ok() && of[0].any().unwrap_or(true)
    }

    fn read(&mut self) {
        let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 16 * 1024];
        let mut seen = Vec::new();
        {
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            while let Ok(event) = reader.next() {
                let name = event.file_name().map(|name| name.to_bytes().to_vec());
                seen.push((event.wd(), event.events(), name));
                if reader.is_buffer_empty() {
                    break;
                }
            }
        }
        for (watch, flags, name) in seen {
            self.heard(watch, flags, name);
        }
    }

    fn heard(&mut self, watch: i32, flags: ReadFlags, name: Option<Vec<u8>>) {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            let problem = "Changes came faster than they could be read; some were missed";
            Self::say_once(&self.observer, &mut self.told.lost, problem.to_owned());
            self.changed(Vec::new());
            if self.looked.elapsed() >= LOOK_AGAIN {
                self.looked = Instant::now();
                self.follow(Vec::new(), false);
            }
            return;
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.directories.remove(&watch);
            return;
        }
        let Some(directory) = self.directories.get(&watch).cloned() else { return };
        let Some(name) = name else {
            self.changed(directory);
            return;
        };
        let path = join(&directory, &name);
        if self.masked.contains(&path) {
            return;
        }
        if flags.intersects(NAMES) {
            self.changed(directory);
        }
        if flags.contains(ReadFlags::ISDIR) {
            if flags.contains(ReadFlags::MOVED_FROM) {
                self.leave(&path);
            }
            if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                self.follow(path.clone(), true);
            }
        }
        self.changed(path);
    }

    fn changed(&mut self, path: Vec<u8>) {
        if self.changed.len() >= GATHER_MAX {
            self.put_off = PUT_OFF_MAX;
            self.tell();
        }
        self.changed.insert(path);
    }

    /// Follows a directory and all below it; what is in a new one is told, too.
    fn follow(&mut self, path: Vec<u8>, is_new: bool) {
        let (top, mut found) = (path.clone(), Vec::new());
        let mut ahead = vec![path];
        while let Some(path) = ahead.pop() {
            if self.has_ended() {
                return;
            }
            let Some(directory) = self.open(&path) else { continue };
            let name = ProcFd::path(directory.as_fd());
            match inotify::add_watch(&self.inotify, name, CHANGES) {
                Ok(watch) => {
                    self.directories.insert(watch, path.clone());
                }
                Err(System::NOSPC) => {
                    self.full("the system's limit, fs.inotify.max_user_watches");
                    break;
                }
                // Gone, or not ours to read: then neither the guest gets it.
                Err(_) => continue,
            }
            let Ok(entries) = Dir::read_from(&directory) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let below = join(&path, name);
                if self.masked.contains(&below) {
                    continue;
                }
                if is_new && found.len() < GATHER_MAX {
                    found.push(below.clone());
                }
                if matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                    if self.directories.len() + ahead.len() >= WATCHES {
                        self.full(&format!("{WATCHES}"));
                    } else {
                        ahead.push(below);
                    }
                }
            }
        }
        if !found.is_empty() && self.found.len() < GATHER_MAX {
            self.found.insert(top, found);
        }
    }

    fn full(&mut self, limit: &str) {
        let count = self.directories.len();
        let problem = format!(
            "Only {count} directories are followed ({limit}); changes in others are seen late"
        );
        Self::say_once(&self.observer, &mut self.told.full, problem);
    }

    /// It was moved away: what was below it has another name, or none.
    fn leave(&mut self, path: &[u8]) {
        let below = join(path, b"");
        let inside = |known: &[u8]| known == path || known.starts_with(&below);
        let gone: Vec<i32> = self
            .directories
            .iter()
            .filter(|(_, known)| inside(known))
            .map(|(watch, _)| *watch)
            .collect();
        for watch in gone {
            self.directories.remove(&watch);
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    /// Only through directories of the source itself.
    fn open(&self, path: &[u8]) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = rustix::fs::ResolveFlags::BENEATH
            | rustix::fs::ResolveFlags::NO_SYMLINKS
            | rustix::fs::ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { &b"."[..] } else { path };
        let fd = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()?;
        let found = attributes::of_fd(fd.as_fd()).ok()?;
        (found.id.device == self.device).then_some(fd)
    }

    fn tell(&mut self) {
        // A change that the guest is making at this moment is not noted yet: what cannot be
        // explained waits for it, but not for ever.
        let mut again = BTreeSet::new();
        let can_wait = self.put_off < PUT_OFF_MAX;
        for path in std::mem::take(&mut self.changed) {
            let busy = self.own.upgrade().is_some_and(|own| own.any_begun());
            if self.is_guests_own(&path) {
                self.found.remove(&path);
            } else if busy && can_wait {
                again.insert(path);
            } else {
                self.tell_of(&path);
            }
        }
        self.put_off = if again.is_empty() { 0 } else { self.put_off + 1 };
        for (top, paths) in std::mem::take(&mut self.found) {
            if again.contains(&top) {
                self.found.insert(top, paths);
            } else {
                paths.iter().for_each(|path| self.tell_of(path));
            }
        }
        self.changed = again;
    }

    fn tell_of(&self, path: &[u8]) {
        let path = [b"/", path].concat();
        self.observer.report(Event::Changed { path });
    }

    fn is_guests_own(&self, path: &[u8]) -> bool {
        let Some(own) = self.own.upgrade() else { return false };
        let Some((above, name)) = split(path) else {
            return attributes::of_fd(self.root.as_fd()).is_ok_and(|found| own.explain(&found));
        };
        let (Some(directory), Ok(name)) = (self.open(above), Name::new(name)) else { return false };
        match attributes::of_name(directory.as_fd(), &name) {
            Ok(found) => own.explain(&found),
            Err(_) => attributes::of_fd(directory.as_fd()).is_ok_and(|found| own.explain(&found)),
        }
    }

    fn say_once(observer: &Observer, told: &mut bool, problem: String) {
        if !std::mem::replace(told, true) {
            observer.report(Event::Watch { problem });
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory => [directory, b"/", name].concat(),
    }
}

/// The directory and the name; nothing for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        _ if path.is_empty() => None,
        None => Some((b"", path)),
        Some(at) => Some((&path[..at], &path[at + 1..])),
    }
}
