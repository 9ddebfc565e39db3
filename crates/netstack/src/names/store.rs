//! The pins: name, address, and how long.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::HostName;
use crate::policy::TrustedNames;

/// How long a name is trusted at least.
pub const SHORTEST_PIN: Duration = Duration::from_mins(10);
/// How long a name is trusted at most, whatever the record says (RFC 8767, 4 advises a week).
const LONGEST_PIN: Duration = Duration::from_hours(7 * 24);
/// Pins in all. The one that would end first makes room.
const MOST_PINS: usize = 32_768;
/// Names of one address.
const MOST_NAMES: usize = 256;

/// Names and their addresses, from accepted DNS answers. Bounded.
pub struct Names {
    pins: Mutex<Pins>,
    most_pins: usize,
    most_names: usize,
}

#[derive(Default)]
struct Pins {
    by_address: HashMap<IpAddr, HashMap<HostName, End>>,
    by_end: BTreeMap<End, (IpAddr, HostName)>,
    next: u64,
}

/// When a pin ends; unique, hence the number.
type End = (Instant, u64);

impl Default for Names {
    fn default() -> Self {
        Self::with_limits(MOST_PINS, MOST_NAMES)
    }
}

impl Names {
    /// No names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with_limits(most_pins: usize, most_names: usize) -> Self {
        Self { pins: Mutex::default(), most_pins, most_names }
    }

    /// Trusts a name for an address from now on, for as long as the record lives and for
    /// [`SHORTEST_PIN`] at least. A pin is never shortened.
    pub fn pin(&self, name: &HostName, address: IpAddr, ttl: Duration) {
        self.pin_at(name, address, ttl, Instant::now());
    }

    /// [`Self::pin`], at a given time.
    pub fn pin_at(&self, name: &HostName, address: IpAddr, ttl: Duration, now: Instant) {
        let address = address.to_canonical();
        let end = now + ttl.clamp(SHORTEST_PIN, LONGEST_PIN);
        let mut pins = self.lock();
        pins.forget_ended(now);
        if let Some(old) = pins.by_address.get(&address).and_then(|names| names.get(name)).copied()
        {
            if old.0 >= end {
                return;
            }
            pins.forget(old);
        }
        if let Some(first) = pins.first_of(address, self.most_names) {
            pins.forget(first);
        }
        while pins.by_end.len() >= self.most_pins {
            let Some((&first, _)) = pins.by_end.first_key_value() else { break };
            pins.forget(first);
        }
        pins.insert(name.clone(), address, end);
    }

    /// Whether the name is trusted for the address.
    #[must_use]
    pub fn trusts(&self, name: &HostName, address: IpAddr) -> bool {
        self.trusts_at(name, address, Instant::now())
    }

    /// [`Self::trusts`], at a given time.
    #[must_use]
    pub fn trusts_at(&self, name: &HostName, address: IpAddr, now: Instant) -> bool {
        let pins = self.lock();
        let names = pins.by_address.get(&address.to_canonical());
        names.and_then(|names| names.get(name)).is_some_and(|end| end.0 > now)
    }

    /// All names trusted for the address, sorted.
    #[must_use]
    pub fn names_of(&self, address: IpAddr) -> Vec<HostName> {
        self.names_of_at(address, Instant::now())
    }

    /// [`Self::names_of`], at a given time.
    #[must_use]
    pub fn names_of_at(&self, address: IpAddr, now: Instant) -> Vec<HostName> {
        let pins = self.lock();
        let names = pins.by_address.get(&address.to_canonical());
        let living = names.into_iter().flatten().filter(|(_, end)| end.0 > now);
        let mut found: Vec<_> = living.map(|(name, _)| name.clone()).collect();
        found.sort();
        found
    }

    fn lock(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pins {
    fn insert(&mut self, name: HostName, address: IpAddr, end: Instant) {
        let end = (end, self.next);
        self.next += 1;
        self.by_address.entry(address).or_default().insert(name.clone(), end);
        self.by_end.insert(end, (address, name));
    }

    fn forget(&mut self, end: End) {
        let Some((address, name)) = self.by_end.remove(&end) else { return };
        let Some(names) = self.by_address.get_mut(&address) else { return };
        names.remove(&name);
        if names.is_empty() {
            self.by_address.remove(&address);
        }
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some((&end, _)) = self.by_end.first_key_value() {
            if end.0 > now {
                break;
            }
            self.forget(end);
        }
    }

    /// The pin of the address that ends first, if the address has too many.
    fn first_of(&self, address: IpAddr, most: usize) -> Option<End> {
        let names = self.by_address.get(&address)?;
        (names.len() >= most).then(|| names.values().min().copied()).flatten()
    }
}

impl TrustedNames for Names {
    fn names_of(&self, address: IpAddr) -> Vec<String> {
        Self::names_of(self, address).iter().map(ToString::to_string).collect()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("pins", &self.lock().by_end.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    #[test]
    fn a_short_record_is_trusted_for_ten_minutes() {
        let (names, start) = (Names::new(), Instant::now());
        names.pin_at(&name("a.example"), ADDRESS, Duration::from_secs(1), start);
        let last = start + SHORTEST_PIN - Duration::from_nanos(1);
        assert!(names.trusts_at(&name("A.EXAMPLE."), ADDRESS, last));
        assert!(!names.trusts_at(&name("a.example"), ADDRESS, start + SHORTEST_PIN));
    }

    #[test]
    fn a_long_record_is_trusted_as_long_as_it_lives_and_never_shortened() {
        let (names, start) = (Names::new(), Instant::now());
        let hour = Duration::from_hours(1);
        names.pin_at(&name("a.example"), ADDRESS, hour, start);
        names.pin_at(&name("a.example"), ADDRESS, Duration::ZERO, start);
        assert!(names.trusts_at(&name("a.example"), ADDRESS, start + hour - SHORTEST_PIN / 2));
        assert_eq!(names.names_of_at(ADDRESS, start + hour), []);
    }

    #[test]
    fn an_address_has_several_names_and_an_old_spelling() {
        let (names, start) = (Names::new(), Instant::now());
        for host in ["b.example", "a.example"] {
            names.pin_at(&name(host), ADDRESS, Duration::ZERO, start);
        }
        let mapped = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(names.names_of_at(mapped, start), [name("a.example"), name("b.example")]);
        assert!(!names.trusts_at(&name("c.example"), ADDRESS, start));
    }

    #[test]
    fn the_pin_that_ends_first_makes_room() {
        let (names, start) = (Names::with_limits(3, 2), Instant::now());
        let hours = |hours| Duration::from_hours(hours);
        names.pin_at(&name("a.example"), ADDRESS, hours(3), start);
        names.pin_at(&name("b.example"), ADDRESS, hours(2), start);
        names.pin_at(&name("c.example"), ADDRESS, hours(4), start);
        assert_eq!(names.names_of_at(ADDRESS, start), [name("a.example"), name("c.example")]);
        let other = "2001:db8::1".parse().unwrap();
        names.pin_at(&name("d.example"), other, hours(1), start);
        names.pin_at(&name("e.example"), other, hours(1), start);
        assert_eq!(names.names_of_at(other, start), [name("e.example")]);
    }

    proptest! {
        #[test]
        fn both_indexes_agree_and_stay_within_bounds(
            steps in proptest::collection::vec((0u8..6, 0u8..4, 0u64..3_000, 0u64..400), 0..200)
        ) {
            let (names, mut now) = (Names::with_limits(8, 3), Instant::now());
            for (host, address, ttl, later) in steps {
                now += Duration::from_secs(later);
                let address = IpAddr::from([192, 0, 2, address]);
                let host = name(&format!("h{host}.example"));
                names.pin_at(&host, address, Duration::from_secs(ttl), now);
                prop_assert!(names.trusts_at(&host, address, now));
                let pins = names.lock();
                let held: usize = pins.by_address.values().map(HashMap::len).sum();
                prop_assert_eq!(held, pins.by_end.len());
                prop_assert!(held <= 8);
                prop_assert!(pins.by_address.values().all(|names| (1..=3).contains(&names.len())));
            }
        }
    }
}
