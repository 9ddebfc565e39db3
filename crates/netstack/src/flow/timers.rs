//! One deadline a flow.

use std::collections::{BTreeSet, HashMap};

use smoltcp::time::Instant;

use super::FlowId;

/// When flows are to be looked at. Holds exactly one entry for each flow that waits for a time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, FlowId)>,
    of: HashMap<FlowId, Instant>,
}

impl Timers {
    /// Sets or, with `None`, forgets the deadline of a flow. A deadline that only moves back is left
    /// where it is: the flow is looked at once too often, and nothing is written on most packets.
    pub(crate) fn set(&mut self, id: FlowId, at: Option<Instant>) {
        match (self.of.get(&id).copied(), at) {
            (Some(old), Some(new)) if old <= new => {}
            (Some(old), new) => {
                self.order.remove(&(old, id));
                self.of.remove(&id);
                self.add(id, new);
            }
            (None, new) => self.add(id, new),
        }
    }

    fn add(&mut self, id: FlowId, at: Option<Instant>) {
        if let Some(at) = at {
            self.order.insert((at, id));
            self.of.insert(id, at);
        }
    }

    /// The first deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out one flow whose deadline has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<FlowId> {
        let (at, id) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.pop_first();
        self.of.remove(&id);
        Some(id)
    }
}
