//! What a mount tells its owner while it runs: nothing that goes wrong on the host side is silent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Something the owner of a mount should hear of. Paths are the guest's, from the mount's root,
/// and need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request was not answered in time; the guest got `EIO`.
    Deadline {
        /// Which.
        request: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// A callback answered something that cannot be; the guest got `EIO`, or what made sense.
    WrongAnswer {
        /// Which callback.
        callback: &'static str,
        /// What it was asked about.
        path: Vec<u8>,
        /// What was wrong.
        problem: String,
    },
    /// A limit refused something, reported when it does so for the first time.
    Limit {
        /// Which.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Changes on the host side cannot be followed, or not all of them; reported once for each
    /// reason.
    Watch {
        /// Why, and which.
        problem: String,
    },
    /// Something below this path changed on the host side.
    Changed {
        /// What.
        path: Vec<u8>,
    },
}

/// Where events go; must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(Event) + Send + Sync>);

impl Observer {
    /// Calls `receive` for each event.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Into the log only.
    #[must_use]
    pub fn log() -> Self {
        Self::new(|event| tracing::warn!(?event, "mount"))
    }

    /// Tells one thing.
    pub fn report(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
