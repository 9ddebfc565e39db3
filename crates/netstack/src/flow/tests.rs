use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use proptest::prelude::*;
use smoltcp::time::Instant;

use super::*;

fn key(number: u8) -> Key {
    let transport = [Transport::Tcp, Transport::Udp, Transport::Icmp][usize::from(number % 3)];
    let destination = SocketAddr::from(([192, 0, 2, number / 3], 80));
    Key { transport, source: 1, destination }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u8),
    Remove(u8),
    Find(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..3_u8, 0..24_u8).prop_map(|(kind, number)| match kind {
        0 => Step::Insert(number),
        1 => Step::Remove(number),
        _ => Step::Find(number),
    });
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Against a plain map with the same limits.
    #[test]
    fn the_table_is_a_map_with_limits(steps in steps()) {
        const LIMITS: [usize; 3] = [3, 4, 2];
        let mut table = Table::new(LIMITS);
        let mut model: HashMap<Key, (FlowId, u8)> = HashMap::new();
        let mut seen = std::collections::HashSet::new();
        for step in steps {
            match step {
                Step::Insert(number) => {
                    let key = key(number);
                    let same = model.keys().filter(|other| other.transport == key.transport).count();
                    let limit = LIMITS[usize::from(number % 3)];
                    let fits = same < limit && !model.contains_key(&key);
                    let result = table.insert(key, |_| number);
                    prop_assert_eq!(result.is_ok(), fits);
                    if let Ok(id) = result {
                        prop_assert!(seen.insert(id), "a number came twice");
                        model.insert(key, (id, number));
                    }
                }
                Step::Remove(number) => {
                    let id = table.find(&key(number));
                    let removed = id.and_then(|id| table.remove(id)).map(|(_, value)| value);
                    let expected = model.remove(&key(number)).map(|(_, value)| value);
                    prop_assert_eq!(removed, expected);
                }
                Step::Find(number) => {
                    let found = table.find(&key(number)).and_then(|id| table.get_mut(id).copied());
                    prop_assert_eq!(found, model.get(&key(number)).map(|(_, value)| *value));
                }
            }
            for transport in [Transport::Tcp, Transport::Udp, Transport::Icmp] {
                let expected = model.keys().filter(|key| key.transport == transport).count();
                prop_assert_eq!(table.count(transport), expected);
            }
            prop_assert_eq!(table.ids().len(), model.len());
        }
    }

    /// Never late, never twice, never lost.
    #[test]
    fn timers_come_in_order(
        steps in proptest::collection::vec((0..8_u64, proptest::option::of(0..100_i64)), 0..100),
    ) {
        let mut timers = Timers::default();
        let mut model: BTreeMap<u64, i64> = BTreeMap::new();
        for (id, at) in steps {
            timers.set(FlowId(id), at.map(Instant::from_millis));
            match (at, model.get(&id)) {
                (Some(at), Some(&old)) if old <= at => {}
                (Some(at), _) => { model.insert(id, at); }
                (None, _) => { model.remove(&id); }
            }
            let first = model.values().min().map(|&at| Instant::from_millis(at));
            prop_assert_eq!(timers.next(), first);
        }
        let mut last = i64::MIN;
        for now in 0..100 {
            while let Some(id) = timers.due(Instant::from_millis(now)) {
                let at = model.remove(&id.0);
                prop_assert_eq!(at, Some(now));
                prop_assert!(now >= last);
                last = now;
            }
        }
        prop_assert!(model.is_empty());
    }
}
