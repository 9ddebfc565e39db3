//! What the guest changed itself, so that it is not told of its own doing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::HostDir;
use super::attributes::Found;
use super::node::FileId;
use crate::{Inode, Time};

/// Files that are remembered; beyond it the older half goes. A change that was forgotten is
/// announced to who made it, which is noise and no harm.
const REMEMBERED: usize = 8192;

/// When the guest last changed which file, by the host's clock.
#[derive(Default)]
pub(super) struct GuestChanges {
    latest: Mutex<HashMap<FileId, Time>>,
    /// Changes that have begun and are not noted yet.
    begun: AtomicUsize,
}

/// A change that the guest is making.
pub(super) struct Changing<'a>(Option<&'a GuestChanges>);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if let Some(changes) = self.0 {
            changes.begun.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl GuestChanges {
    pub(super) fn note(&self, id: FileId) {
        let now = Time::from(SystemTime::now());
        let mut latest = self.latest();
        if latest.len() >= REMEMBERED {
            let mut times: Vec<Time> = latest.values().copied().collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            latest.retain(|_, time| *time > median);
        }
        latest.insert(id, now);
    }

    /// Whether the last change of the file was the guest's: nothing has changed it since. A host's
    /// change within the same tick of the clock (some milliseconds) counts as the guest's.
    pub(super) fn explain(&self, found: &Found) -> bool {
        self.latest().get(&found.id).is_some_and(|time| found.stamp().changed <= *time)
    }

    /// Whether the guest is changing something at this moment.
    pub(super) fn any_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire) > 0
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<FileId, Time>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostDir {
    /// The guest begins to change something; what it was is noted before this is dropped.
    pub(super) fn guest_changes(&self) -> Changing<'_> {
        let changes = self.guest_changes.get().map(|changes| &**changes);
        if let Some(changes) = changes {
            changes.begun.fetch_add(1, Ordering::AcqRel);
        }
        Changing(changes)
    }

    /// The guest has changed these files.
    pub(super) fn changed_by_guest(&self, inodes: &[Inode]) {
        let Some(changes) = self.guest_changes.get() else { return };
        for inode in inodes {
            if let Ok(node) = self.nodes.get(*inode) {
                changes.note(node.id);
            }
        }
    }

    /// The guest has changed what was found.
    pub(super) fn found_after_guest(&self, found: &Found) {
        if let Some(changes) = self.guest_changes.get() {
            changes.note(found.id);
        }
    }
}
