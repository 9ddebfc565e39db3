//! What a stack counts.

use std::sync::Arc;
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
    /// Bytes of frames from the guest.
    pub frames_in: u64,
    /// Bytes of frames to the guest.
    pub frames_out: u64,
    /// What was dropped, by cause; only what was.
    pub dropped: Vec<(Dropped, u64)>,
}

/// Reads the counters of a stack, also while somebody else has it. The last values stay.
#[derive(Clone, Debug)]
pub struct Meter(pub(super) Arc<Counters>);

impl Meter {
    /// A look at the counters.
    #[must_use]
    pub fn look(&self) -> Stats {
        self.0.look()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(super) tcp: AtomicU64,
    pub(super) udp: AtomicU64,
    pub(super) icmp: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) frames_in: AtomicU64,
    pub(super) frames_out: AtomicU64,
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
            frames_in: read(&self.frames_in),
            frames_out: read(&self.frames_out),
            dropped: dropped.filter(|(_, total)| *total > 0).collect(),
        }
    }
}
