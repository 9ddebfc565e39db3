//! Changes of the host, on their way to the guest's watchers.
//!
//! Gathered for a moment, each path once; one call to the guest at a time, so a guest that is slow
//! gets less often what is gathered meanwhile. What is more than a call takes is dropped, once with
//! a report.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use protocol::guest::v1::AnnounceChangesRequest;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use vfs::Time;

use super::report::{Problem, Reporter};
use crate::guest::Guest;
use crate::limits::{FILESYSTEM_CHANGES, GATHER_CHANGES};

/// Gathers changes of all mounts.
#[derive(Default)]
pub(super) struct Announcer {
    mounts: Mutex<Vec<Waiting>>,
    wake: Notify,
}

struct Waiting {
    tag: String,
    paths: BTreeSet<Vec<u8>>,
    reporter: Arc<Reporter>,
    told_many: bool,
    told_failed: bool,
}

impl Announcer {
    /// One more mount; what its changes are called by.
    pub(super) fn add(&self, tag: &str, reporter: Arc<Reporter>) -> usize {
        let mut mounts = self.mounts();
        mounts.push(Waiting {
            tag: tag.to_owned(),
            paths: BTreeSet::new(),
            reporter,
            told_many: false,
            told_failed: false,
        });
        mounts.len() - 1
    }

    /// Something changed.
    pub(super) fn changed(&self, mount: usize, path: Vec<u8>) {
        let full = {
            let mut mounts = self.mounts();
            let Some(waiting) = mounts.get_mut(mount) else { return };
            if waiting.paths.len() < FILESYSTEM_CHANGES {
                waiting.paths.insert(path);
                None
            } else {
                let first = !std::mem::replace(&mut waiting.told_many, true);
                first.then(|| Arc::clone(&waiting.reporter))
            }
        };
        self.wake.notify_one();
        if let Some(reporter) = full {
            let message = "Changes come faster than the guest takes them; its watchers miss some";
            reporter.tell(Problem::Watch, Vec::new(), message.to_owned());
        }
    }

    /// Tells the guest from here on; what changed before is of no interest, nobody watched.
    pub(super) fn tell(self: &Arc<Self>, guest: Guest, mark: Time) -> JoinHandle<()> {
        self.mounts().iter_mut().for_each(|waiting| waiting.paths.clear());
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                this.wake.notified().await;
                sleep(GATHER_CHANGES).await;
                let count = this.mounts().len();
                for mount in 0..count {
                    this.tell_mount(mount, &guest, mark).await;
                }
            }
        })
    }

    async fn tell_mount(&self, mount: usize, guest: &Guest, mark: Time) {
        let (tag, paths) = {
            let mut mounts = self.mounts();
            let Some(waiting) = mounts.get_mut(mount) else { return };
            (waiting.tag.clone(), std::mem::take(&mut waiting.paths))
        };
        if paths.is_empty() {
            return;
        }
        let request = AnnounceChangesRequest {
            tag,
            paths: paths.into_iter().map(Into::into).collect(),
            mark_seconds: mark.seconds,
            mark_nanos: mark.nanos,
        };
        let Err(error) = guest.announce_changes(request).await else { return };
        let reporter = {
            let mut mounts = self.mounts();
            let Some(waiting) = mounts.get_mut(mount) else { return };
            let first = !std::mem::replace(&mut waiting.told_failed, true);
            first.then(|| Arc::clone(&waiting.reporter))
        };
        if let Some(reporter) = reporter.filter(|_| !guest.lost().is_cancelled()) {
            let message = format!("The guest's watchers were not told of changes: {error}");
            reporter.tell(Problem::Watch, Vec::new(), message);
        }
    }

    fn mounts(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
