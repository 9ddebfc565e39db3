//! The table of flows: found by what packets carry, named by numbers that never come again.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{FlowId, Transport};

/// What tells flows of one guest apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) transport: Transport,
    /// The guest's port, or the identifier of its echo requests.
    pub(crate) source: u16,
    pub(crate) destination: SocketAddr,
}

/// There is no room for another flow of this transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Flows by key and by number. Holds at most a set number of each transport.
#[derive(Debug)]
pub(crate) struct Table<T> {
    by_key: HashMap<Key, FlowId>,
    by_id: HashMap<FlowId, (Key, T)>,
    counts: [usize; 3],
    limits: [usize; 3],
    last: u64,
}

fn place(transport: Transport) -> usize {
    match transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
        Transport::Icmp => 2,
    }
}

impl<T> Table<T> {
    /// An empty table with limits for TCP, UDP and ICMP.
    pub(crate) fn new(limits: [usize; 3]) -> Self {
        Self { by_key: HashMap::new(), by_id: HashMap::new(), counts: [0; 3], limits, last: 0 }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<FlowId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        self.by_id.get_mut(&id).map(|(_, flow)| flow)
    }

    /// Makes a flow. The key must not be in the table.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        make: impl FnOnce(FlowId) -> T,
    ) -> Result<FlowId, Full> {
        let place = place(key.transport);
        if self.counts[place] >= self.limits[place] || self.by_key.contains_key(&key) {
            return Err(Full);
        }
        self.last += 1;
        let id = FlowId(self.last);
        self.by_key.insert(key, id);
        self.by_id.insert(id, (key, make(id)));
        self.counts[place] += 1;
        Ok(id)
    }

    pub(crate) fn remove(&mut self, id: FlowId) -> Option<(Key, T)> {
        let (key, flow) = self.by_id.remove(&id)?;
        self.by_key.remove(&key);
        self.counts[place(key.transport)] -= 1;
        Some((key, flow))
    }

    pub(crate) fn count(&self, transport: Transport) -> usize {
        self.counts[place(transport)]
    }

    pub(crate) fn ids(&self) -> Vec<FlowId> {
        self.by_id.keys().copied().collect()
    }
}
