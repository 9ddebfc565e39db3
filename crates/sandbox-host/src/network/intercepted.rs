//! Addresses that a policy has let HTTP through to, by name: QUIC to them would pass interception by.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use crate::limits::INTERCEPTED_ADDRESSES;

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct Intercepted(Mutex<Addresses>);

#[derive(Debug, Default)]
struct Addresses {
    all: HashSet<IpAddr>,
    order: VecDeque<IpAddr>,
}

impl Intercepted {
    pub(super) fn add(&self, address: IpAddr) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.all.insert(address) {
            return;
        }
        known.order.push_back(address);
        if known.order.len() > INTERCEPTED_ADDRESSES
            && let Some(oldest) = known.order.pop_front()
        {
            known.all.remove(&oldest);
        }
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).all.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let known = Intercepted::default();
        let address = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
        for n in 0..=INTERCEPTED_ADDRESSES {
            known.add(address(n));
            known.add(address(n));
        }
        assert!(!known.has(address(0)));
        assert!(known.has(address(1)) && known.has(address(INTERCEPTED_ADDRESSES)));
        assert_eq!(known.0.lock().unwrap().all.len(), INTERCEPTED_ADDRESSES);
    }
}
