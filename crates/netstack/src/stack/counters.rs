//! What a stack counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{Dropped, Event, Observer};

/// A look at a stack's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// TCP connections, those that wait for a verdict included.
    pub tcp: u64,
    /// UDP flows, refused ones that are remembered for a while included.
    pub udp: u64,
    /// Echo flows, the same.
    pub icmp: u64,
    /// Bytes of payload from the guest, of flows that have ended.
    pub sent: u64,
    /// Bytes of payload to the guest, of flows that have ended.
    pub received: u64,
    /// What was dropped, by cause; only what was.
    pub dropped: Vec<(Dropped, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) tcp: AtomicU64,
    pub(super) udp: AtomicU64,
    pub(super) icmp: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Counters {
    /// Counts, and tells on the first, second, fourth, eighth … occasion.
    pub(super) fn count(&self, cause: Dropped, observer: &Observer) {
        let total = self.dropped[cause as usize].fetch_add(1, Ordering::Relaxed) + 1;
        if total.is_power_of_two() {
            observer.tell(Event::Dropped { cause, total });
        }
    }

    pub(super) fn look(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let dropped =
            Dropped::ALL.iter().map(|&cause| (cause, read(&self.dropped[cause as usize])));
        Stats {
            tcp: read(&self.tcp),
            udp: read(&self.udp),
            icmp: read(&self.icmp),
            sent: read(&self.sent),
            received: read(&self.received),
            dropped: dropped.filter(|(_, total)| *total > 0).collect(),
        }
    }
}
