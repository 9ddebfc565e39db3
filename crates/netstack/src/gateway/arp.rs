//! ARP: who has the gateway's address, and the host's.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{ArpOperation, ArpRepr};

use super::{Gateway, Handled};
use crate::event::Dropped;
use crate::link::{self, GATEWAY_MAC, GUEST_V4};
use crate::wire::{Outbox, arp_frame};

impl Gateway {
    pub(super) fn arp<'a>(&self, message: ArpRepr, outbox: &mut Outbox) -> Handled<'a> {
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = message
        else {
            return Handled::Dropped(Dropped::UnsupportedProtocol);
        };
        // An address probe has no source yet (RFC 5227, 2.1.1).
        let own = [GUEST_V4, Ipv4Addr::UNSPECIFIED].contains(&source_protocol_addr);
        if source_hardware_addr != self.guest || !own {
            return Handled::Dropped(Dropped::SpoofedSource);
        }
        let target = IpAddr::V4(target_protocol_addr);
        if operation != ArpOperation::Request
            || !(link::is_gateway(target) || link::is_host(target))
        {
            return Handled::Dropped(Dropped::NotServed);
        }
        if !outbox.has_room() {
            return Handled::Dropped(Dropped::GuestBusy);
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: GATEWAY_MAC,
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: self.guest,
            target_protocol_addr: source_protocol_addr,
        };
        arp_frame(outbox, self.guest, reply);
        Handled::Answered
    }
}
