//! DHCP: one client, one address (RFC 2131, 4.3).

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr};

use super::{Gateway, Handled};
use crate::event::Dropped;
use crate::link::{GATEWAY_V4, GUEST_V4, PREFIX_V4};
use crate::wire::{Outbox, Packet, Route, udp_frame};

/// From the client's port to the server's.
pub(super) const PORTS: (u16, u16) = (68, 67);
/// Seconds. There is nobody else to give the address to.
const LEASE: u32 = 86_400;
const OPTION_MTU: u8 = 26;

impl Gateway {
    pub(super) fn dhcp<'a>(
        &self,
        packet: &Packet<'_>,
        payload: &[u8],
        outbox: &mut Outbox,
    ) -> Handled<'a> {
        let sources: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), GUEST_V4.into()];
        if !sources.contains(&packet.source) {
            return Handled::Dropped(Dropped::SpoofedSource);
        }
        let destinations: [IpAddr; 2] = [Ipv4Addr::BROADCAST.into(), GATEWAY_V4.into()];
        if !destinations.contains(&packet.destination) {
            return Handled::Dropped(Dropped::NotServed);
        }
        let Ok(message) = DhcpPacket::new_checked(payload) else {
            return Handled::Dropped(Dropped::Malformed);
        };
        let Ok(request) = DhcpRepr::parse(&message) else {
            return Handled::Dropped(Dropped::Malformed);
        };
        if request.client_hardware_address != self.guest {
            return Handled::Dropped(Dropped::SpoofedMac);
        }
        let Some(message_type) = answer_to(&request) else {
            return Handled::Dropped(Dropped::NotServed);
        };
        if !outbox.has_room() {
            return Handled::Dropped(Dropped::GuestBusy);
        }
        self.reply(&request, message_type, outbox);
        Handled::Answered
    }

    fn reply(&self, request: &DhcpRepr<'_>, message_type: DhcpMessageType, outbox: &mut Outbox) {
        let refused = message_type == DhcpMessageType::Nak;
        // A client that only wants to be informed has an address and no lease.
        let informed = request.message_type == DhcpMessageType::Inform;
        let mtu = self.mtu.to_be_bytes();
        let options = [DhcpOption { kind: OPTION_MTU, data: &mtu }];
        let mask = Ipv4Addr::from_bits(u32::MAX << (32 - PREFIX_V4));
        let reply = DhcpRepr {
            message_type,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: request.client_hardware_address,
            client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
            your_ip: if refused || informed { Ipv4Addr::UNSPECIFIED } else { GUEST_V4 },
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: (!refused).then_some(GATEWAY_V4),
            subnet_mask: (!refused).then_some(mask),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(GATEWAY_V4),
            parameter_request_list: None,
            dns_servers: (!refused).then(|| std::iter::once(GATEWAY_V4).collect()),
            max_size: None,
            lease_duration: (!refused && !informed).then_some(LEASE),
            renew_duration: None,
            rebind_duration: None,
            additional_options: if refused { &[] } else { &options },
        };
        let mut payload = vec![0; reply.buffer_len()];
        if reply.emit(&mut DhcpPacket::new_unchecked(&mut payload[..])).is_err() {
            debug_assert!(false, "the buffer has the length that was asked for");
            return;
        }
        let bound = request.client_ip == GUEST_V4;
        let destination = if bound && !refused { GUEST_V4 } else { Ipv4Addr::BROADCAST };
        let (source, destination) = (GATEWAY_V4.into(), destination.into());
        let route = Route { mac: self.guest, source, destination };
        udp_frame(outbox, route, (PORTS.1, PORTS.0), &payload, self.mtu);
    }
}

/// What a message is answered with, if at all.
fn answer_to(request: &DhcpRepr<'_>) -> Option<DhcpMessageType> {
    match request.message_type {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        DhcpMessageType::Inform => Some(DhcpMessageType::Ack),
        DhcpMessageType::Request => {
            if request.server_identifier.is_some_and(|server| server != GATEWAY_V4) {
                return None;
            }
            let wanted = request.requested_ip.unwrap_or(request.client_ip);
            Some(if wanted == GUEST_V4 { DhcpMessageType::Ack } else { DhcpMessageType::Nak })
        }
        _ => None,
    }
}
