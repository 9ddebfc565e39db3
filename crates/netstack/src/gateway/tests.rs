use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame,
    Icmpv6Packet, Icmpv6Repr, Ipv4Packet, Ipv6Packet, NdiscRepr, UdpPacket,
};

use super::*;
use crate::link::{GATEWAY_V4, GUEST_V4, GUEST_V6, HOST_V4};
use crate::wire::{ETHERNET_HEADER, MTU_MAX, Sums, arp_frame, udp_frame};

const GUEST: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const GATEWAY: Gateway = Gateway { guest: GUEST, mtu: 9000 };

/// What a frame leads to: a cause, or the answer.
fn handle(bytes: &[u8]) -> Result<Option<Vec<u8>>, Dropped> {
    let frame = Frame::parse(bytes, Sums::Vouched)?;
    let mut outbox = Outbox::new(false);
    match GATEWAY.handle(frame, &mut outbox) {
        Handled::Answered => Ok(outbox.first().map(<[u8]>::to_vec)),
        Handled::Dropped(cause) => Err(cause),
        Handled::Flow(_) => Ok(None),
    }
}

/// A frame as the builders make it, as if the guest had sent it to `to`.
fn from_guest(to: EthernetAddress, build: impl FnOnce(&mut Outbox)) -> Vec<u8> {
    let mut outbox = Outbox::new(false);
    build(&mut outbox);
    let mut bytes = outbox.first().expect("a frame").to_vec();
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&GUEST.0);
    bytes
}

fn ask(mac: EthernetAddress, who: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    from_guest(EthernetAddress::BROADCAST, |outbox| {
        let request = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: mac,
            source_protocol_addr: who,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: target,
        };
        arp_frame(outbox, GUEST, request);
    })
}

#[test]
fn arp_is_answered_for_two_addresses_and_to_the_guest_alone() {
    for target in [GATEWAY_V4, HOST_V4] {
        let reply = handle(&ask(GUEST, GUEST_V4, target)).expect("taken").expect("answered");
        let packet = ArpPacket::new_checked(&reply[ETHERNET_HEADER..]).expect("a message");
        let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } =
            ArpRepr::parse(&packet).expect("a reply")
        else {
            panic!("another kind")
        };
        assert_eq!((source_hardware_addr, source_protocol_addr), (GATEWAY_MAC, target));
    }
    let other = Ipv4Addr::new(10, 0, 2, 9);
    assert_eq!(handle(&ask(GUEST, GUEST_V4, other)), Err(Dropped::NotServed));
    assert_eq!(handle(&ask(GUEST, other, GATEWAY_V4)), Err(Dropped::SpoofedSource));
    assert_eq!(handle(&ask(GATEWAY_MAC, GUEST_V4, GATEWAY_V4)), Err(Dropped::SpoofedSource));
}

fn neighbor(kind: u8, source: Ipv6Addr, rest: &[u8]) -> Vec<u8> {
    from_guest(EthernetAddress([0x33, 0x33, 0, 0, 0, 2]), |outbox| {
        let destination = "ff02::2".parse().expect("an address");
        let route = Route { mac: GUEST, source: source.into(), destination };
        icmp_frame(outbox, route, (kind, 0, [0; 4]), rest);
    })
}

fn message(bytes: &[u8]) -> NdiscRepr<'_> {
    let ethernet = EthernetFrame::new_checked(bytes).expect("a frame");
    let packet = Ipv6Packet::new_checked(ethernet.payload()).expect("a packet");
    assert_eq!(packet.hop_limit(), 255);
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let message = Icmpv6Packet::new_checked(packet.payload()).expect("a message");
    let sums = smoltcp::phy::ChecksumCapabilities::default();
    match Icmpv6Repr::parse(&source, &destination, &message, &sums).expect("a message") {
        Icmpv6Repr::Ndisc(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn neighbours_are_advertised() {
    for target in ANSWERED_V6 {
        let bytes = neighbor(135, GUEST_V6, &target.octets());
        let reply = handle(&bytes).expect("taken").expect("answered");
        let NdiscRepr::NeighborAdvert { target_addr, lladdr, .. } = message(&reply) else {
            panic!("another kind")
        };
        assert_eq!(target_addr, target);
        let lladdr = lladdr.expect("an address").parse(smoltcp::phy::Medium::Ethernet);
        assert_eq!(lladdr, Ok(smoltcp::wire::HardwareAddress::Ethernet(GATEWAY_MAC)));
    }
    let other: Ipv6Addr = "fd00::99".parse().expect("an address");
    let unknown = neighbor(135, GUEST_V6, &other.octets());
    assert_eq!(handle(&unknown), Err(Dropped::NotServed));
    let spoofed = neighbor(135, other, &GATEWAY_V6.octets());
    assert_eq!(handle(&spoofed), Err(Dropped::SpoofedSource));
}

#[test]
fn the_router_advertises_mtu_and_a_prefix_without_addresses() {
    let link_local = "fe80::9".parse().expect("an address");
    let reply = handle(&neighbor(133, link_local, &[])).expect("taken").expect("answered");
    let NdiscRepr::RouterAdvert { mtu, prefix_info, router_lifetime, .. } = message(&reply) else {
        panic!("another kind")
    };
    assert_eq!((mtu, router_lifetime.total_millis()), (Some(9000), 9_000_000));
    let prefix = prefix_info.expect("a prefix");
    assert_eq!((prefix.prefix, prefix.prefix_len), ("fd00::".parse().expect("a prefix"), 64));
    assert!(!prefix.is_valid_prefix_info(), "no addresses are to be made from it");
}

fn dhcp(
    message_type: DhcpMessageType,
    requested: Option<Ipv4Addr>,
    mac: EthernetAddress,
) -> Vec<u8> {
    let request = DhcpRepr {
        message_type,
        transaction_id: 7,
        secs: 0,
        client_hardware_address: mac,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: requested,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut payload = vec![0; request.buffer_len()];
    request.emit(&mut DhcpPacket::new_unchecked(&mut payload[..])).expect("room");
    from_guest(EthernetAddress::BROADCAST, |outbox| {
        let (source, destination) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
        let route = Route { mac: GUEST, source, destination };
        assert!(udp_frame(outbox, route, dhcp::PORTS, &payload, MTU_MAX));
    })
}

#[test]
fn dhcp_gives_the_one_address() {
    use DhcpMessageType::{Ack, Decline, Discover, Nak, Offer, Request};
    for (asked, wanted, expected) in [
        (Discover, None, Offer),
        (Request, Some(GUEST_V4), Ack),
        (Request, Some(Ipv4Addr::new(10, 0, 2, 99)), Nak),
    ] {
        let reply = handle(&dhcp(asked, wanted, GUEST)).expect("taken").expect("answered");
        let packet = Ipv4Packet::new_checked(&reply[ETHERNET_HEADER..]).expect("a packet");
        let datagram = UdpPacket::new_checked(packet.payload()).expect("a datagram");
        let message = DhcpPacket::new_checked(datagram.payload()).expect("a message");
        let reply = DhcpRepr::parse(&message).expect("a reply");
        assert_eq!((reply.message_type, reply.transaction_id), (expected, 7));
        if expected != Nak {
            assert_eq!((reply.your_ip, reply.router), (GUEST_V4, Some(GATEWAY_V4)));
            assert_eq!(reply.dns_servers.expect("a resolver").as_slice(), [GATEWAY_V4]);
        }
    }
    assert_eq!(handle(&dhcp(Decline, None, GUEST)), Err(Dropped::NotServed));
    assert_eq!(handle(&dhcp(Discover, None, GATEWAY_MAC)), Err(Dropped::SpoofedMac));
}

#[test]
fn others_are_not_spoken_for() {
    let datagram = |source: &str, destination: &str, to| {
        from_guest(to, |outbox| {
            let (source, destination) =
                (source.parse().expect("one"), destination.parse().expect("one"));
            let route = Route { mac: GUEST, source, destination };
            assert!(udp_frame(outbox, route, (9, 9), b"x", MTU_MAX));
        })
    };
    let own = datagram("10.0.2.15", "192.0.2.1", GATEWAY_MAC);
    assert_eq!(handle(&own), Ok(None));
    for (source, destination, to, cause) in [
        ("10.0.2.16", "192.0.2.1", GATEWAY_MAC, Dropped::SpoofedSource),
        ("192.0.2.9", "192.0.2.1", GATEWAY_MAC, Dropped::SpoofedSource),
        ("fe80::9", "2001:db8::1", GATEWAY_MAC, Dropped::SpoofedSource),
        ("10.0.2.15", "192.0.2.1", EthernetAddress([2, 1, 1, 1, 1, 1]), Dropped::OtherDestination),
        ("10.0.2.15", "224.0.0.1", EthernetAddress::BROADCAST, Dropped::Multicast),
        ("10.0.2.15", "255.255.255.255", GATEWAY_MAC, Dropped::Multicast),
        ("10.0.2.15", "192.0.2.1", EthernetAddress::BROADCAST, Dropped::Multicast),
    ] {
        assert_eq!(
            handle(&datagram(source, destination, to)),
            Err(cause),
            "{source} {destination}"
        );
    }
}
