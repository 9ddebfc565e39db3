//! What the owner of a disk is told about its store.

use std::sync::atomic::{AtomicBool, Ordering};

use super::options::EventSink;
use crate::store::StoreError;

/// What a store was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreCall {
    /// To give blocks.
    Read,
    /// To keep, zero or discard blocks.
    Write,
    /// To make durable what it keeps.
    Flush,
}

/// Something the owner of a disk should know. A store that keeps failing is told once for each
/// kind of call, and again after one of that kind has succeeded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum DiskEvent {
    /// A call of this kind failed. Changes that it concerned are kept and tried again.
    StoreFailing {
        /// The kind.
        call: StoreCall,
        /// Why.
        error: StoreError,
    },
    /// A call of this kind succeeded again.
    StoreRecovered {
        /// The kind.
        call: StoreCall,
    },
}

/// Which kinds of calls fail at present.
pub(super) struct Health {
    failing: [AtomicBool; 3],
    events: Option<EventSink>,
}

impl Health {
    pub(super) fn new(events: Option<EventSink>) -> Self {
        Self { failing: Default::default(), events }
    }

    pub(super) fn note(&self, call: StoreCall, error: Option<&StoreError>) {
        let failing = match call {
            StoreCall::Read => &self.failing[0],
            StoreCall::Write => &self.failing[1],
            StoreCall::Flush => &self.failing[2],
        };
        if failing.swap(error.is_some(), Ordering::Relaxed) == error.is_some() {
            return;
        }
        let Some(events) = &self.events else { return };
        events.tell(match error {
            Some(error) => DiskEvent::StoreFailing { call, error: error.clone() },
            None => DiskEvent::StoreRecovered { call },
        });
    }
}
