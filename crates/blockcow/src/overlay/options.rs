//! How a disk is to treat its store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::event::DiskEvent;

/// Told of events, on any thread; must return at once.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(DiskEvent) + Send + Sync>);

impl EventSink {
    /// Calls this for each event.
    pub fn new(tell: impl Fn(DiskEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn tell(&self, event: DiskEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EventSink")
    }
}

/// How a disk is to treat its store.
#[derive(Debug, Clone)]
pub struct OverlayOptions {
    /// Size of the disk: that of the base when absent, else at least that; a multiple of 512.
    /// Beyond the base there are zeros.
    pub size_bytes: Option<u64>,
    /// Memory for changes that are not in the store, with what it takes to keep them
    /// ([`crate::limits::DIRTY_ENTRY_BYTES`] a block). Writes wait when it is used up. 64 MiB; at
    /// least 1 MiB and two blocks. Of no effect on stores that write through.
    pub max_dirty_bytes: u64,
    /// How long a change may wait in memory when nothing asks for it. 1 s.
    pub write_back_delay: Duration,
    /// How long the store may take for one call. 15 s.
    pub store_deadline: Duration,
    /// Write-backs under way at once, of different blocks: 1 to 64. 4.
    pub max_write_backs: usize,
    /// Who wants to know when the store fails.
    pub events: Option<EventSink>,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self {
            size_bytes: None,
            max_dirty_bytes: 64 << 20,
            write_back_delay: Duration::from_secs(1),
            store_deadline: Duration::from_secs(15),
            max_write_backs: 4,
            events: None,
        }
    }
}
