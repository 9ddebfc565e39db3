//! From answers to frames, which wait in an [`Outbox`].

use std::net::IpAddr;

use smoltcp::wire::{
    ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use super::{ETHERNET_HEADER, checksum};
use crate::link::{GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6};

/// Hop limit of what we send.
pub(crate) const HOP_LIMIT: u8 = 64;
/// Bytes that wait before flows are told to wait. One more frame always fits.
const ROOM: usize = 1 << 20;
/// Length before each frame.
const LENGTH: usize = 4;
/// Bytes of a `virtio_net_hdr` without `num_buffers`.
pub(crate) const VNET_HEADER: usize = 10;

/// Frames on their way to the guest: each with its length before it, four bytes, big-endian, and
/// where the device wants one a `virtio_net_hdr` between the two, counted in the length.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    vnet: bool,
}

/// What the device is to do with a TCP segment: fill in its sum, and cut it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offload {
    /// Bytes of all headers.
    pub(crate) headers: u16,
    /// Bytes before the TCP header.
    pub(crate) start: u16,
    /// Payload of each piece; `None`: it is short enough.
    pub(crate) size: Option<u16>,
    /// Whether it is IPv6.
    pub(crate) v6: bool,
}

impl Outbox {
    pub(crate) fn new(vnet: bool) -> Self {
        Self { vnet, ..Self::default() }
    }

    /// Whether flows may add frames.
    pub(crate) fn has_room(&self) -> bool {
        self.end - self.start < ROOM
    }

    /// Whether the guest has left so much unread that nothing at all may be added: even what it
    /// sends is not looked at then, for it might want an answer.
    pub(crate) fn is_flooded(&self) -> bool {
        self.end - self.start >= 4 * ROOM
    }

    /// Bytes that wait, with what the device has before each frame.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What waits.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The first frame that waits, with a `virtio_net_hdr` if there are any.
    pub(crate) fn first(&self) -> Option<&[u8]> {
        let (length, rest) = self.waiting().split_first_chunk::<LENGTH>()?;
        rest.get(..u32::from_be_bytes(*length) as usize)
    }

    pub(crate) fn drop_first(&mut self) {
        let length = self.first().map_or(0, |frame| LENGTH + frame.len());
        self.taken(length);
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn taken(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Adds a frame of `length` bytes, which `fill` writes, all of it.
    pub(crate) fn push<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.push_with(length, |frame| (fill(frame), None))
    }

    /// The same for a frame that the device is to complete.
    pub(crate) fn push_with<R>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> (R, Option<Offload>),
    ) -> R {
        let header = if self.vnet { VNET_HEADER } else { 0 };
        let whole = LENGTH + header + length;
        if self.end + whole > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let needed = (self.end + whole).next_multiple_of(64 * 1024);
            self.buffer.resize(needed.max(self.buffer.len()), 0);
        }
        let entry = &mut self.buffer[self.end..self.end + whole];
        let (prefix, frame) = entry.split_at_mut(LENGTH + header);
        // A frame is shorter than 128 KiB.
        let counted = u32::try_from(header + length).unwrap_or(0);
        prefix[..LENGTH].copy_from_slice(&counted.to_be_bytes());
        let (result, offload) = fill(frame);
        prefix[LENGTH..].copy_from_slice(&vnet_header(offload)[..header]);
        self.end += whole;
        result
    }
}

/// Virtio 1.2, 5.1.6; little-endian on the machines that we run on.
fn vnet_header(offload: Option<Offload>) -> [u8; VNET_HEADER] {
    const NEEDS_SUM: u8 = 1;
    const TCPV4: u8 = 1;
    const TCPV6: u8 = 4;
    /// Where the sum stands in a TCP header.
    const TCP_SUM: u16 = 16;
    let mut header = [0; VNET_HEADER];
    if let Some(offload) = offload {
        header[0] = NEEDS_SUM;
        header[6..8].copy_from_slice(&offload.start.to_ne_bytes());
        header[8..10].copy_from_slice(&TCP_SUM.to_ne_bytes());
        if let Some(size) = offload.size {
            header[1] = if offload.v6 { TCPV6 } else { TCPV4 };
            header[2..4].copy_from_slice(&offload.headers.to_ne_bytes());
            header[4..6].copy_from_slice(&size.to_ne_bytes());
        }
    }
    header
}

fn ethernet(frame: &mut [u8], to: EthernetAddress, protocol: EthernetProtocol) -> &mut [u8] {
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(GATEWAY_MAC);
    ethernet.set_dst_addr(to);
    ethernet.set_ethertype(protocol);
    &mut frame[ETHERNET_HEADER..]
}

/// Writes the Ethernet header before a packet.
pub(crate) fn address_packet(frame: &mut [u8], to: EthernetAddress, v6: bool) -> &mut [u8] {
    ethernet(frame, to, if v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 })
}

pub(crate) fn arp_frame(outbox: &mut Outbox, to: EthernetAddress, arp: ArpRepr) {
    outbox.push(ETHERNET_HEADER + arp.buffer_len(), |frame| {
        arp.emit(&mut ArpPacket::new_unchecked(ethernet(frame, to, EthernetProtocol::Arp)));
    });
}

/// The addresses of a packet to the guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) mac: EthernetAddress,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

/// Adds an IP packet whose payload `fill` writes.
pub(crate) fn ip_frame(
    outbox: &mut Outbox,
    route: Route,
    protocol: IpProtocol,
    (hop_limit, length): (u8, usize),
    fill: impl FnOnce(&mut [u8]),
) {
    match (route.source, route.destination) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let next_header = protocol;
            let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len: length, hop_limit };
            outbox.push(ETHERNET_HEADER + repr.buffer_len() + length, |frame| {
                let bytes = address_packet(frame, route.mac, false);
                let sums = smoltcp::phy::ChecksumCapabilities::default();
                repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &sums);
                fill(&mut bytes[repr.buffer_len()..]);
            });
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let next_header = protocol;
            let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len: length, hop_limit };
            outbox.push(ETHERNET_HEADER + repr.buffer_len() + length, |frame| {
                let bytes = address_packet(frame, route.mac, true);
                repr.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[..]));
                fill(&mut bytes[repr.buffer_len()..]);
            });
        }
        // Callers take both from one packet or one flow.
        _ => debug_assert!(false, "a route has one family"),
    }
}

/// Adds a segment without payload: a reset, or an acknowledgement.
pub(crate) fn tcp_frame(
    outbox: &mut Outbox,
    route: Route,
    ports: (u16, u16),
    (sequence, acknowledged, rst): (u32, Option<u32>, bool),
) {
    const HEADER: usize = 20;
    const ACK: u8 = 0x10;
    const RST: u8 = 0x04;
    ip_frame(outbox, route, IpProtocol::Tcp, (HOP_LIMIT, HEADER), |bytes| {
        bytes.fill(0);
        bytes[0..2].copy_from_slice(&ports.0.to_be_bytes());
        bytes[2..4].copy_from_slice(&ports.1.to_be_bytes());
        bytes[4..8].copy_from_slice(&sequence.to_be_bytes());
        bytes[8..12].copy_from_slice(&acknowledged.unwrap_or(0).to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[13] = if acknowledged.is_some() { ACK } else { 0 } | if rst { RST } else { 0 };
        let sum = checksum::of(route.source, route.destination, IpProtocol::Tcp, bytes);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    });
}

/// Writes the sum of a TCP segment, or as much of it as a device wants to find.
pub(crate) fn fill_tcp_sum(source: IpAddr, destination: IpAddr, bytes: &mut [u8], whole: bool) {
    bytes[16..18].fill(0);
    let sum = if whole {
        checksum::of(source, destination, IpProtocol::Tcp, bytes)
    } else {
        checksum::of_pseudo_header(source, destination, IpProtocol::Tcp, bytes.len())
    };
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// Adds a datagram. `false` when it is longer than the link carries.
pub(crate) fn udp_frame(
    outbox: &mut Outbox,
    route: Route,
    ports: (u16, u16),
    payload: &[u8],
    mtu: u16,
) -> bool {
    const HEADER: usize = 8;
    let ip_header = if route.source.is_ipv4() { 20 } else { 40 };
    let length = HEADER + payload.len();
    let Ok(counted) = u16::try_from(length) else { return false };
    if ip_header + length > usize::from(mtu) {
        return false;
    }
    ip_frame(outbox, route, IpProtocol::Udp, (HOP_LIMIT, length), |bytes| {
        bytes[0..2].copy_from_slice(&ports.0.to_be_bytes());
        bytes[2..4].copy_from_slice(&ports.1.to_be_bytes());
        bytes[4..6].copy_from_slice(&counted.to_be_bytes());
        bytes[6..8].fill(0);
        bytes[HEADER..].copy_from_slice(payload);
        // A sum of 0 is sent as its other form: 0 says that there is none.
        let sum = match checksum::of(route.source, route.destination, IpProtocol::Udp, bytes) {
            0 => 0xffff,
            sum => sum,
        };
        bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    });
    true
}

/// Adds an ICMP message of either family: kind, code, the four bytes after the sum, and the rest.
pub(crate) fn icmp_frame(
    outbox: &mut Outbox,
    route: Route,
    (kind, code, word): (u8, u8, [u8; 4]),
    rest: &[u8],
) {
    let hop_limit = if kind >= NEIGHBOR_KINDS { 255 } else { HOP_LIMIT };
    let protocol = if route.source.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
    ip_frame(outbox, route, protocol, (hop_limit, 8 + rest.len()), |bytes| {
        bytes[..4].copy_from_slice(&[kind, code, 0, 0]);
        bytes[4..8].copy_from_slice(&word);
        bytes[8..].copy_from_slice(rest);
        let sum = match route.source {
            IpAddr::V4(_) => checksum::of_plain(bytes),
            IpAddr::V6(_) => checksum::of(route.source, route.destination, protocol, bytes),
        };
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    });
}

/// ICMPv6 messages from here on are those of neighbour discovery, which never cross a router.
const NEIGHBOR_KINDS: u8 = 133;

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not allowed.
    Prohibited,
    /// Nobody listens there.
    Port,
    /// No way to the host.
    Host,
    /// No way to the network.
    Network,
}

/// Adds the ICMP error about a packet of the guest (RFC 792, RFC 1812 5.2.7.1, RFC 4443 3.1).
pub(crate) fn refusal_frame(
    outbox: &mut Outbox,
    mac: EthernetAddress,
    (guest, destination): (IpAddr, IpAddr),
    packet: &[u8],
    refusal: Refusal,
) {
    /// So that the error itself never needs cutting.
    const QUOTED_V4: usize = 548;
    const QUOTED_V6: usize = 1280 - 48;
    let (kind, code, quoted) = match (guest, refusal) {
        (IpAddr::V4(_), Refusal::Network) => (3, 0, QUOTED_V4),
        (IpAddr::V4(_), Refusal::Host) => (3, 1, QUOTED_V4),
        (IpAddr::V4(_), Refusal::Port) => (3, 3, QUOTED_V4),
        (IpAddr::V4(_), Refusal::Prohibited) => (3, 13, QUOTED_V4),
        (IpAddr::V6(_), Refusal::Network) => (1, 0, QUOTED_V6),
        (IpAddr::V6(_), Refusal::Prohibited) => (1, 1, QUOTED_V6),
        (IpAddr::V6(_), Refusal::Host) => (1, 3, QUOTED_V6),
        (IpAddr::V6(_), Refusal::Port) => (1, 4, QUOTED_V6),
    };
    let source = match (refusal, guest) {
        (Refusal::Port, _) => destination,
        (_, IpAddr::V4(_)) => GATEWAY_V4.into(),
        (_, IpAddr::V6(_)) => GATEWAY_V6.into(),
    };
    let route = Route { mac, source, destination: guest };
    icmp_frame(outbox, route, (kind, code, [0; 4]), &packet[..packet.len().min(quoted)]);
}
