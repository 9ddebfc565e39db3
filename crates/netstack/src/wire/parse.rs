//! From bytes to frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Message,
    Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet, NdiscRepr,
    UdpPacket,
};

use super::tcp::Segment;
use super::{FRAME_MAX, Sums, checksum};
use crate::event::Dropped;

/// A checked Ethernet frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Who says to have sent it.
    pub source: EthernetAddress,
    /// For whom it is.
    pub destination: EthernetAddress,
    /// What it carries.
    pub link: Link<'a>,
}

/// What a frame carries.
#[derive(Debug)]
pub enum Link<'a> {
    /// An ARP message for IPv4 over Ethernet.
    Arp(ArpRepr),
    /// An IP packet.
    Ip(Packet<'a>),
}

/// A checked IP packet that is not a fragment.
#[derive(Debug)]
pub struct Packet<'a> {
    /// Who says to have sent it.
    pub source: IpAddr,
    /// For whom it is.
    pub destination: IpAddr,
    /// The whole packet, without what Ethernet may have padded it with.
    pub bytes: &'a [u8],
    /// What it carries.
    pub payload: Payload<'a>,
}

/// What a packet carries.
#[derive(Debug)]
pub enum Payload<'a> {
    /// A TCP segment.
    Tcp(Segment<'a>),
    /// A UDP datagram.
    Udp(Udp<'a>),
    /// An ICMP message.
    Icmp4(Icmp4<'a>),
    /// An ICMPv6 message.
    Icmp6(Icmp6<'a>),
    /// Something that is not carried.
    Other,
}

/// A checked UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    /// Port of the sender.
    pub source_port: u16,
    /// Port of the receiver.
    pub destination_port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// A checked ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp4<'a> {
    /// An echo request.
    Echo {
        /// Identifier.
        ident: u16,
        /// Sequence number.
        sequence: u16,
        /// What is to be sent back.
        data: &'a [u8],
    },
    /// Anything else; nothing else is of use to us.
    Other,
}

/// A checked ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp6<'a> {
    /// An echo request.
    Echo {
        /// Identifier.
        ident: u16,
        /// Sequence number.
        sequence: u16,
        /// What is to be sent back.
        data: &'a [u8],
    },
    /// A question who has an address.
    NeighborSolicit {
        /// That address.
        target: Ipv6Addr,
    },
    /// A question for routers.
    RouterSolicit,
    /// Anything else; nothing else is of use to us.
    Other,
}

impl<'a> Frame<'a> {
    /// Checks a frame.
    ///
    /// # Errors
    /// The cause for which it is to be dropped.
    pub fn parse(bytes: &'a [u8], sums: Sums) -> Result<Self, Dropped> {
        if bytes.len() > FRAME_MAX {
            return Err(Dropped::TooBig);
        }
        let frame = EthernetFrame::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
        let payload = frame.payload();
        let link = match frame.ethertype() {
            EthernetProtocol::Arp => Link::Arp(arp(payload)?),
            EthernetProtocol::Ipv4 => Link::Ip(ipv4(payload, sums)?),
            EthernetProtocol::Ipv6 => Link::Ip(ipv6(payload, sums)?),
            EthernetProtocol::Unknown(_) => return Err(Dropped::UnsupportedProtocol),
        };
        Ok(Self { source: frame.src_addr(), destination: frame.dst_addr(), link })
    }
}

impl<'a> Packet<'a> {
    /// Reads a packet again that has been checked before.
    pub(crate) fn again(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => ipv4(bytes, Sums::Vouched).ok(),
            _ => ipv6(bytes, Sums::Vouched).ok(),
        }
    }
}

fn arp(bytes: &[u8]) -> Result<ArpRepr, Dropped> {
    let packet = ArpPacket::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
    ArpRepr::parse(&packet).map_err(|_| Dropped::Malformed)
}

fn ipv4(bytes: &[u8], sums: Sums) -> Result<Packet<'_>, Dropped> {
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
    if packet.version() != 4 {
        return Err(Dropped::Malformed);
    }
    if !packet.verify_checksum() {
        return Err(Dropped::Checksum);
    }
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Err(Dropped::Fragment);
    }
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    let length = usize::from(packet.total_len());
    let protocol = packet.next_header();
    let payload = transport(source, destination, protocol, packet.payload(), sums)?;
    Ok(Packet { source, destination, bytes: &bytes[..length], payload })
}

fn ipv6(bytes: &[u8], sums: Sums) -> Result<Packet<'_>, Dropped> {
    let packet = Ipv6Packet::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
    if packet.version() != 6 {
        return Err(Dropped::Malformed);
    }
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    let length = packet.total_len();
    if packet.next_header() == IpProtocol::Ipv6Frag {
        return Err(Dropped::Fragment);
    }
    let protocol = packet.next_header();
    let payload = transport(source, destination, protocol, packet.payload(), sums)?;
    if let Payload::Icmp6(Icmp6::NeighborSolicit { .. } | Icmp6::RouterSolicit) = payload {
        // From this link and no other (RFC 4861, 6.1.1 and 7.1.1).
        if packet.hop_limit() != 255 {
            return Err(Dropped::Malformed);
        }
    }
    Ok(Packet { source, destination, bytes: &bytes[..length], payload })
}

fn transport(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    bytes: &[u8],
    sums: Sums,
) -> Result<Payload<'_>, Dropped> {
    match (protocol, source, destination) {
        (IpProtocol::Tcp, ..) => Segment::parse(source, destination, bytes, sums).map(Payload::Tcp),
        (IpProtocol::Udp, ..) => udp(source, destination, bytes, sums).map(Payload::Udp),
        (IpProtocol::Icmp, IpAddr::V4(_), _) => icmp4(bytes).map(Payload::Icmp4),
        (IpProtocol::Icmpv6, IpAddr::V6(source), IpAddr::V6(destination)) => {
            icmp6(source, destination, bytes).map(Payload::Icmp6)
        }
        _ => Ok(Payload::Other),
    }
}

fn udp(source: IpAddr, destination: IpAddr, bytes: &[u8], sums: Sums) -> Result<Udp<'_>, Dropped> {
    let packet = UdpPacket::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
    let (source_port, destination_port) = (packet.src_port(), packet.dst_port());
    if source_port == 0 || destination_port == 0 {
        return Err(Dropped::Malformed);
    }
    // Over IPv4 a sum of 0 says that there is none (RFC 768).
    let none = source.is_ipv4() && packet.checksum() == 0;
    let right = || checksum::holds(source, destination, IpProtocol::Udp, used(bytes, &packet));
    if sums == Sums::Unknown && !none && !right() {
        return Err(Dropped::Checksum);
    }
    Ok(Udp { source_port, destination_port, payload: packet.payload() })
}

/// The datagram without what follows it.
fn used<'a>(bytes: &'a [u8], packet: &UdpPacket<&[u8]>) -> &'a [u8] {
    &bytes[..usize::from(packet.len())]
}

fn icmp4(bytes: &[u8]) -> Result<Icmp4<'_>, Dropped> {
    let packet = Icmpv4Packet::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
    if !packet.verify_checksum() {
        return Err(Dropped::Checksum);
    }
    if packet.msg_type() != Icmpv4Message::EchoRequest || packet.msg_code() != 0 {
        return Ok(Icmp4::Other);
    }
    let (ident, sequence) = (packet.echo_ident(), packet.echo_seq_no());
    Ok(Icmp4::Echo { ident, sequence, data: packet.data() })
}

fn icmp6(source: Ipv6Addr, destination: Ipv6Addr, bytes: &[u8]) -> Result<Icmp6<'_>, Dropped> {
    let packet = Icmpv6Packet::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
    if !packet.verify_checksum(&source, &destination) {
        return Err(Dropped::Checksum);
    }
    Ok(match packet.msg_type() {
        Icmpv6Message::EchoRequest => Icmp6::Echo {
            ident: packet.echo_ident(),
            sequence: packet.echo_seq_no(),
            data: packet.payload(),
        },
        Icmpv6Message::NeighborSolicit => match NdiscRepr::parse(&packet) {
            Ok(NdiscRepr::NeighborSolicit { target_addr, .. }) => {
                Icmp6::NeighborSolicit { target: target_addr }
            }
            _ => return Err(Dropped::Malformed),
        },
        Icmpv6Message::RouterSolicit => match NdiscRepr::parse(&packet) {
            Ok(_) => Icmp6::RouterSolicit,
            Err(_) => return Err(Dropped::Malformed),
        },
        _ => Icmp6::Other,
    })
}

/// Whether nobody in particular is meant by the address.
pub(crate) fn is_for_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4 == Ipv4Addr::BROADCAST,
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}
