//! The gateway's own answers: ARP, neighbour and router discovery, DHCP, echo. Nothing else: it has
//! no port but the resolver's, which is a flow like any other.
//!
//! Read: RFC 826, RFC 4861, RFC 2131, RFC 2132, RFC 792, RFC 4443.

mod arp;
mod dhcp;
mod neighbor;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use smoltcp::wire::EthernetAddress;

use crate::event::Dropped;
use crate::link::{self, GATEWAY_LINK_LOCAL, GATEWAY_MAC, GATEWAY_V6, HOST_V6};
use crate::wire::{
    Frame, Icmp4, Icmp6, Link, Outbox, Packet, Payload, Route, icmp_frame, is_for_many,
};

/// What the gateway needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gateway {
    /// The guest's hardware address.
    pub(crate) guest: EthernetAddress,
    /// What is announced.
    pub(crate) mtu: u16,
}

/// Whose frame it is.
#[derive(Debug)]
pub(crate) enum Handled<'a> {
    /// The gateway has answered.
    Answered,
    /// Nobody answers, for this cause.
    Dropped(Dropped),
    /// It belongs to a flow.
    Flow(Packet<'a>),
}

impl Gateway {
    /// Looks at a frame from the guest's hardware address.
    pub(crate) fn handle<'a>(&self, frame: Frame<'a>, outbox: &mut Outbox) -> Handled<'a> {
        let for_us = frame.destination == GATEWAY_MAC || frame.destination.is_multicast();
        if !for_us {
            return Handled::Dropped(Dropped::OtherDestination);
        }
        match frame.link {
            Link::Arp(message) => self.arp(message, outbox),
            Link::Ip(packet) => self.packet(packet, frame.destination.is_multicast(), outbox),
        }
    }

    fn packet<'a>(&self, packet: Packet<'a>, to_many: bool, outbox: &mut Outbox) -> Handled<'a> {
        if let Payload::Udp(udp) = packet.payload
            && (udp.source_port, udp.destination_port) == dhcp::PORTS
        {
            return self.dhcp(&packet, udp.payload, outbox);
        }
        if let (Payload::Icmp6(message), IpAddr::V6(source)) = (&packet.payload, packet.source) {
            match message {
                Icmp6::NeighborSolicit { target } => return self.neighbor(source, *target, outbox),
                Icmp6::RouterSolicit => return self.router(source, outbox),
                _ => {}
            }
        }
        if to_many || is_for_many(packet.destination) {
            return Handled::Dropped(Dropped::Multicast);
        }
        if packet.source != link::guest_for(packet.destination) {
            return Handled::Dropped(Dropped::SpoofedSource);
        }
        if !link::is_gateway(packet.destination) {
            return Handled::Flow(packet);
        }
        let route =
            Route { mac: self.guest, source: packet.destination, destination: packet.source };
        let (kind, ident, sequence, data) = match packet.payload {
            Payload::Icmp4(Icmp4::Echo { ident, sequence, data }) => (0, ident, sequence, data),
            Payload::Icmp6(Icmp6::Echo { ident, sequence, data }) => (129, ident, sequence, data),
            Payload::Tcp(_) | Payload::Udp(_) => return Handled::Flow(packet),
            _ => return Handled::Dropped(Dropped::NotServed),
        };
        if !outbox.has_room() {
            return Handled::Dropped(Dropped::GuestBusy);
        }
        icmp_frame(outbox, route, (kind, 0, echo_word(ident, sequence)), data);
        Handled::Answered
    }
}

/// Identifier and sequence number as an echo message holds them.
pub(crate) fn echo_word(ident: u16, sequence: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (ident.to_be_bytes(), sequence.to_be_bytes());
    [a, b, c, d]
}

/// IPv6 addresses that we answer for.
const ANSWERED_V6: [std::net::Ipv6Addr; 3] = [GATEWAY_V6, HOST_V6, GATEWAY_LINK_LOCAL];
