//! Connections that are over while the guest may not know it: TIME-WAIT without the buffers.

use std::collections::{HashMap, VecDeque};

use smoltcp::time::{Duration, Instant};

use crate::flow::Key;

/// How long a FIN may come again.
const LIFE: Duration = Duration::from_secs(30);
/// The oldest goes when there are more.
const MOST: usize = 4096;

/// The last acknowledgement of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Our next number.
    pub(crate) sequence: u32,
    /// The guest's next number.
    pub(crate) acknowledged: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    by_key: HashMap<Key, (Instant, Tombstone)>,
    order: VecDeque<(Instant, Key)>,
}

impl Tombstones {
    pub(crate) fn add(&mut self, key: Key, tombstone: Tombstone, now: Instant) {
        while let Some(&(since, old)) = self.order.front() {
            if self.order.len() < MOST && now < since + LIFE {
                break;
            }
            self.order.pop_front();
            // The key may have died again since.
            if self.by_key.get(&old).is_some_and(|(again, _)| *again == since) {
                self.by_key.remove(&old);
            }
        }
        self.by_key.insert(key, (now, tombstone));
        self.order.push_back((now, key));
    }

    /// The tombstone of a connection that has not been dead for long.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Tombstone> {
        self.by_key.get(key).filter(|(since, _)| now < *since + LIFE).map(|(_, stone)| *stone)
    }

    /// Forgets it: the guest begins anew.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.by_key.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Transport;

    fn key(source: u16) -> Key {
        let destination = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        Key { transport: Transport::Tcp, source, destination }
    }

    fn stone(sequence: u32) -> Tombstone {
        Tombstone { sequence, acknowledged: 0 }
    }

    #[test]
    fn tombstones_are_forgotten_in_time() {
        let mut stones = Tombstones::default();
        let start = Instant::from_secs(1000);
        stones.add(key(1), stone(1), start);
        assert_eq!(stones.get(&key(1), start + Duration::from_secs(29)), Some(stone(1)));
        assert_eq!(stones.get(&key(1), start + LIFE), None);
        stones.add(key(2), stone(2), start + LIFE);
        assert_eq!(stones.by_key.len(), 1);
    }

    #[test]
    fn a_connection_that_dies_twice_keeps_its_second_tombstone() {
        let mut stones = Tombstones::default();
        let start = Instant::from_secs(1000);
        stones.add(key(1), stone(1), start);
        stones.remove(&key(1));
        stones.add(key(1), stone(2), start + Duration::from_secs(20));
        stones.add(key(3), stone(3), start + Duration::from_secs(31));
        assert_eq!(stones.get(&key(1), start + Duration::from_secs(31)), Some(stone(2)));
    }

    #[test]
    fn there_are_never_more_than_the_limit() {
        let mut stones = Tombstones::default();
        for port in 0..10_000 {
            stones.add(key(port), stone(0), Instant::from_secs(1));
        }
        assert_eq!((stones.by_key.len(), stones.order.len()), (MOST, MOST));
    }
}
