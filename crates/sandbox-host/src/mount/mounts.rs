//! What a VM has mounted, from the plan to its end.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Weak};

use engine::FilesystemSpec;
use protocol::guest::v1 as guest_v1;
use tokio::task::{JoinHandle, spawn_blocking};
use vfs::callbacks::{CallbackFs, CallbackOptions};
use vfs::fuse::{Limits, Serve, Server};
use vfs::host_dir::{
    Access, HostDir, HostDirError, HostDirLimits, HostDirOptions, HostWatcher, Mask,
};
use vfs::{CacheTimes, Event, Observer, Time};

use super::Registry;
use super::announce::Announcer;
use super::callbacks::StreamCallbacks;
use super::link::{Link, Mounted};
use super::report::{Problem, Reporter};
use crate::callback::CallbackStream;
use crate::error::{Error, chain};
use crate::guest::Guest;
use crate::lane::Journal;
use crate::limits::{FILESYSTEM_ENTRIES, FILESYSTEM_REQUESTS};
use crate::request::{BindPlan, CallbackPlan, MountPlan, MountSource, RequestError};

/// The filesystems of one VM. Dropping them ends their streams and watchers.
pub struct Mounts {
    served: Vec<(String, Arc<dyn Serve>)>,
    in_guest: Vec<guest_v1::Mount>,
    links: Vec<Arc<Link>>,
    watchers: Vec<HostWatcher>,
    announcer: Arc<Announcer>,
    announcing: Option<JoinHandle<()>>,
    mark: Time,
}

impl Mounts {
    /// Opens directories and takes attached streams. Parents come before what is in them.
    ///
    /// # Errors
    /// [`Error::Request`] names the option that is wrong, and the path.
    pub async fn open(
        plans: &[MountPlan],
        registry: &Registry,
        journal: &Arc<Journal>,
    ) -> Result<Self, Error> {
        let mut mounts = Self {
            served: Vec::new(),
            in_guest: Vec::new(),
            links: Vec::new(),
            watchers: Vec::new(),
            announcer: Arc::default(),
            announcing: None,
            mark: random_time(),
        };
        registry.close();
        let binds = plans.iter().filter(|plan| matches!(plan.source, MountSource::Bind(_))).count();
        for (index, plan) in plans.iter().enumerate() {
            let tag = format!("mount{index}");
            let reporter = Reporter::new(&plan.target, Arc::clone(journal));
            let number = mounts.announcer.add(&tag, Arc::clone(&reporter));
            let served = match &plan.source {
                MountSource::Bind(bind) => {
                    let observer = mounts.observer(number, &reporter);
                    mounts.bind(plan, bind, binds, (observer, &reporter)).await?
                }
                MountSource::Callbacks(callbacks) => {
                    let Some(link) = registry.take(&callbacks.id) else {
                        let reason = "no ServeFilesystem is attached under this name";
                        let field = "mounts.callbacks.id";
                        return Err(RequestError::new(field, &callbacks.id, reason).into());
                    };
                    let observer = mounts.observer(number, &reporter);
                    mounts.callbacks(plan, callbacks, link, (observer, reporter))
                }
            };
            mounts.in_guest.push(guest_v1::Mount {
                tag: tag.clone(),
                target: plan.target.clone(),
                read_only: plan.read_only,
                set_id: plan.set_id,
            });
            mounts.served.push((tag, served));
        }
        Ok(mounts)
    }

    /// The servers and the tags of their devices.
    pub fn served(&self) -> Vec<FilesystemSpec> {
        let spec = |(tag, server): &(String, Arc<dyn Serve>)| FilesystemSpec {
            tag: tag.clone(),
            server: Arc::clone(server),
        };
        self.served.iter().map(spec).collect()
    }

    /// What the guest's init is to mount.
    pub fn in_guest(&self) -> Vec<guest_v1::Mount> {
        self.in_guest.clone()
    }

    /// Tells the guest what changes from here on.
    pub fn announce_to(&mut self, guest: &Guest) {
        self.announcing = Some(self.announcer.tell(guest.clone(), self.mark));
    }

    /// The VM is closing: callbacks that hang are not waited for, and nobody watches any more.
    pub fn hurry(&mut self) {
        if let Some(task) = self.announcing.take() {
            task.abort();
        }
        self.links.iter().for_each(|link| link.hurry());
    }

    fn observer(&self, number: usize, reporter: &Arc<Reporter>) -> Observer {
        let (announcer, reporter) = (Arc::clone(&self.announcer), Arc::clone(reporter));
        Observer::new(move |event| match event {
            Event::Changed { path } => announcer.changed(number, path),
            problem => reporter.event(problem),
        })
    }

    async fn bind(
        &mut self,
        plan: &MountPlan,
        bind: &BindPlan,
        binds: usize,
        (observer, reporter): (Observer, &Reporter),
    ) -> Result<Arc<dyn Serve>, Error> {
        let options = host_dir_options(plan, bind, binds);
        let watched = observer.clone();
        let opened = spawn_blocking(move || HostDir::new(options, &observer)).await;
        let directory = opened
            .map_err(|_| Error::Defect("The thread that opens directories"))?
            .map_err(|error| bad_bind(bind, &error))?;
        // Where nobody else writes there is nothing to follow.
        if !bind.exclusive {
            let begins = || confine::thread(confine::Role::Watch);
            match HostWatcher::start(&directory, watched.clone(), begins) {
                Ok(watcher) => self.watchers.push(watcher),
                Err(error) => {
                    let message = format!("Changes of the source cannot be followed: {error}");
                    reporter.tell(Problem::Watch, Vec::new(), message);
                }
            }
        }
        Ok(Arc::new(Server::new(directory, limits(), watched).with_mark(self.mark)))
    }

    fn callbacks(
        &mut self,
        plan: &MountPlan,
        callbacks: &CallbackPlan,
        link: Arc<Link>,
        (observer, reporter): (Observer, Arc<Reporter>),
    ) -> Arc<dyn Serve> {
        let options = CallbackOptions {
            cache: CacheTimes::of(callbacks.cache),
            deadline: callbacks.deadline,
            read_only: plan.read_only,
            entries: FILESYSTEM_ENTRIES,
            unlinked_bytes: callbacks.unlinked_bytes,
            ..CallbackOptions::default()
        };
        let asked = StreamCallbacks {
            link: Arc::clone(&link),
            features: callbacks.features,
            observer: observer.clone(),
        };
        let tree = CallbackFs::new(asked, options, observer.clone());
        let server = Arc::new(Server::new(tree, limits(), observer).with_mark(self.mark));
        let weak: Weak<Server<CallbackFs<StreamCallbacks>>> = Arc::downgrade(&server);
        link.mount(Mounted {
            reporter,
            changed: Box::new(move |path| {
                if let Some(server) = weak.upgrade() {
                    server.file_system().changed(path);
                }
            }),
        });
        self.links.push(link);
        server
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        if let Some(task) = self.announcing.take() {
            task.abort();
        }
        self.links.iter().for_each(|link| link.end(None));
    }
}

impl std::fmt::Debug for Mounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.in_guest.iter().map(|mount| &mount.target)).finish()
    }
}

fn limits() -> Limits {
    Limits { slots: FILESYSTEM_REQUESTS, ..Limits::default() }
}

fn host_dir_options(plan: &MountPlan, bind: &BindPlan, binds: usize) -> HostDirOptions {
    let access = if plan.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let mut options = HostDirOptions::new(&bind.source, access);
    options.mask = Mask { paths: bind.mask_paths.clone(), storage: bind.mask_storage.clone() };
    options.exclusive = bind.exclusive;
    options.set_id = plan.set_id;
    let all = HostDirLimits::of_process();
    options.limits = HostDirLimits {
        inodes: all.inodes,
        inode_descriptors: (all.inode_descriptors / binds).max(16),
        handles: (all.handles / binds).max(16),
        lock_owners: (all.lock_owners / binds).max(8),
    };
    options
}

fn bad_bind(bind: &BindPlan, error: &HostDirError) -> Error {
    let storage = bind.mask_storage.as_deref();
    let (field, value) = match error {
        HostDirError::MaskPath { path } => ("mounts.bind.mask_paths", path.as_path()),
        HostDirError::Nested { storage, .. } => ("mounts.bind.mask_storage", storage.as_path()),
        HostDirError::Open { path, .. } if storage.is_some_and(|root| path.starts_with(root)) => {
            ("mounts.bind.mask_storage", path.as_path())
        }
        _ => ("mounts.bind.source", bind.source.as_path()),
    };
    RequestError::new(field, value, format!("it cannot be used: {}", chain(error))).into()
}

/// A time that no file has by chance: what the guest sets to make its watchers hear.
fn random_time() -> Time {
    let random = || RandomState::new().build_hasher().finish();
    let seconds = i64::try_from(random() % (1 << 32)).unwrap_or_default();
    let nanos = u32::try_from(random() % 1_000_000_000).unwrap_or_default();
    Time { seconds, nanos }
}
