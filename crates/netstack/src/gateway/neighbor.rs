//! Neighbour and router discovery (RFC 4861). The guest's addresses are given to it, so the prefix
//! is announced as on-link and not for address configuration.

use std::net::{IpAddr, Ipv6Addr};

use super::{ANSWERED_V6, Gateway, Handled};
use crate::event::Dropped;
use crate::link::{GATEWAY_LINK_LOCAL, GATEWAY_MAC, GATEWAY_V6, GUEST_V6, PREFIX_V6};
use crate::wire::{HOP_LIMIT, Outbox, Route, icmp_frame};

const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Flags of a neighbour advertisement: router, solicited, override.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long what is announced holds, in seconds: the most that a router may be announced for.
const ROUTER_LIFETIME: u16 = 9000;

impl Gateway {
    pub(super) fn neighbor<'a>(
        &self,
        source: Ipv6Addr,
        target: Ipv6Addr,
        outbox: &mut Outbox,
    ) -> Handled<'a> {
        // The guest makes sure that nobody else has its addresses: nobody has.
        let probe = source.is_unspecified();
        let own = source == GUEST_V6 || source.is_unicast_link_local();
        if !probe && !own {
            return Handled::Dropped(Dropped::SpoofedSource);
        }
        if !ANSWERED_V6.contains(&target) {
            return Handled::Dropped(Dropped::NotServed);
        }
        if !outbox.has_room() {
            return Handled::Dropped(Dropped::GuestBusy);
        }
        let destination = if probe { ALL_NODES } else { source };
        let mut flags = OVERRIDE | if probe { 0 } else { SOLICITED };
        if target != crate::link::HOST_V6 {
            flags |= ROUTER;
        }
        let mut rest = target.octets().to_vec();
        rest.extend_from_slice(&[2, 1]);
        rest.extend_from_slice(&GATEWAY_MAC.0);
        let route = self.route_v6(target, destination);
        icmp_frame(outbox, route, (NEIGHBOR_ADVERTISEMENT, 0, [flags, 0, 0, 0]), &rest);
        Handled::Answered
    }

    pub(super) fn router<'a>(&self, source: Ipv6Addr, outbox: &mut Outbox) -> Handled<'a> {
        let own = source == GUEST_V6 || source.is_unicast_link_local() || source.is_unspecified();
        if !own {
            return Handled::Dropped(Dropped::SpoofedSource);
        }
        if !outbox.has_room() {
            return Handled::Dropped(Dropped::GuestBusy);
        }
        let [high, low] = ROUTER_LIFETIME.to_be_bytes();
        // Reachable and retransmission times: not specified.
        let mut rest = vec![0; 8];
        rest.extend_from_slice(&[1, 1]);
        rest.extend_from_slice(&GATEWAY_MAC.0);
        rest.extend_from_slice(&[5, 1, 0, 0]);
        rest.extend_from_slice(&u32::from(self.mtu).to_be_bytes());
        const ON_LINK: u8 = 0x80;
        rest.extend_from_slice(&[3, 4, PREFIX_V6, ON_LINK]);
        let forever = u32::MAX.to_be_bytes();
        rest.extend_from_slice(&[forever, forever, [0; 4]].concat());
        rest.extend_from_slice(&Ipv6Addr::from_bits(GATEWAY_V6.to_bits() >> 64 << 64).octets());
        // The resolver (RFC 8106, 5.1).
        rest.extend_from_slice(&[25, 3, 0, 0]);
        rest.extend_from_slice(&u32::from(ROUTER_LIFETIME).to_be_bytes());
        rest.extend_from_slice(&GATEWAY_V6.octets());
        let destination = if source.is_unspecified() { ALL_NODES } else { source };
        let route = self.route_v6(GATEWAY_LINK_LOCAL, destination);
        icmp_frame(outbox, route, (ROUTER_ADVERTISEMENT, 0, [HOP_LIMIT, 0, high, low]), &rest);
        Handled::Answered
    }

    fn route_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Route {
        Route { mac: self.guest, source: IpAddr::V6(source), destination: IpAddr::V6(destination) }
    }
}
