//! A guest that makes its frames by hand: where they may not go, and from whom they may not come.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use netstack::device::Device;
use netstack::{
    Config, Decision, DenyReason, Dropped, Event, Flow, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6,
    GUEST_V4, GUEST_V6, Grants, Observer, Policy, Stack, Transport,
};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Packet, Icmpv4Repr, IpProtocol, IpRepr, Ipv4Packet, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::guest::PATIENCE;

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

/// Accepts everything, without grants, and notes what it was asked.
#[derive(Default)]
struct Notes(Mutex<Vec<Flow>>);

#[async_trait]
impl Policy for Notes {
    async fn decide(&self, flow: &Flow) -> Decision {
        self.0.lock().expect("not held").push(flow.clone());
        Decision::Accept(Grants::default())
    }
}

struct World {
    stack: Stack,
    frames: UnixStream,
    notes: Arc<Notes>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    fn new() -> Self {
        let (ours, theirs) = StdStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a mode");
        let notes = Arc::<Notes>::default();
        let events = Arc::<Mutex<Vec<_>>>::default();
        let log = events.clone();
        let observer = Observer::new(move |event| log.lock().expect("not held").push(event));
        let device = Device::frame_socket(theirs).expect("a device");
        let config = Config { guest_mac: Some(MAC.0), ..Config::default() };
        let stack = Stack::start(config, device, notes.clone(), observer, &Handle::current());
        let frames = UnixStream::from_std(ours).expect("a socket");
        Self { stack: stack.expect("a stack"), frames, notes, events }
    }

    async fn send(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).expect("a frame").to_be_bytes();
        self.frames.write_all(&[&length[..], frame].concat()).await.expect("taken");
    }

    async fn receive(&mut self) -> Vec<u8> {
        let read = async {
            let mut frame = vec![0; self.frames.read_u32().await.expect("a length") as usize];
            self.frames.read_exact(&mut frame).await.expect("a frame");
            frame
        };
        timeout(PATIENCE, read).await.expect("an answer")
    }

    fn dropped(&self, cause: Dropped) -> u64 {
        let dropped = self.stack.stats().dropped;
        dropped.into_iter().find(|(other, _)| *other == cause).map_or(0, |(_, total)| total)
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    fn denied(&self) -> Vec<(SocketAddr, Transport, DenyReason)> {
        let events = self.events.lock().expect("not held");
        let denied = events.iter().filter_map(|event| match event {
            Event::Denied { flow, reason, .. } => Some((flow.destination, flow.transport, *reason)),
            _ => None,
        });
        denied.collect()
    }

    fn opened(&self) -> usize {
        let events = self.events.lock().expect("not held");
        events.iter().filter(|event| matches!(event, Event::Opened { .. })).count()
    }
}

/// A frame with an IP packet, whose payload `fill` writes.
fn packet(
    mac: EthernetAddress,
    (source, destination): (IpAddr, IpAddr),
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let ip = IpRepr::new(source.into(), destination.into(), protocol, length, 64);
    let mut frame = vec![0; 14 + ip.buffer_len()];
    let ethertype = match source {
        IpAddr::V4(_) => EthernetProtocol::Ipv4,
        IpAddr::V6(_) => EthernetProtocol::Ipv6,
    };
    let ethernet = EthernetRepr { src_addr: mac, dst_addr: GATEWAY_MAC, ethertype };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    ip.emit(&mut frame[14..], &ChecksumCapabilities::default());
    fill(&mut frame[14 + ip.header_len()..]);
    frame
}

fn syn(source: IpAddr, to: SocketAddr, port: u16) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: port,
        dst_port: to.port(),
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1000),
        ack_number: None,
        window_len: 65_535,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ends = (source, to.ip());
    packet(MAC, ends, IpProtocol::Tcp, repr.buffer_len(), |bytes| {
        let (from, to) = (ends.0.into(), ends.1.into());
        let sums = ChecksumCapabilities::default();
        repr.emit(&mut TcpPacket::new_unchecked(bytes), &from, &to, &sums);
    })
}

fn datagram(mac: EthernetAddress, source: IpAddr, to: SocketAddr, port: u16) -> Vec<u8> {
    let repr = UdpRepr { src_port: port, dst_port: to.port() };
    let ends = (source, to.ip());
    packet(mac, ends, IpProtocol::Udp, repr.header_len() + 4, |bytes| {
        let (from, to) = (ends.0.into(), ends.1.into());
        let mut udp = UdpPacket::new_unchecked(bytes);
        let sums = ChecksumCapabilities::default();
        repr.emit(&mut udp, &from, &to, 4, |payload| payload.copy_from_slice(b"evil"), &sums);
    })
}

fn echo(destination: [u8; 4]) -> Vec<u8> {
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: b"evil" };
    let ends = (GUEST_V4.into(), IpAddr::from(destination));
    packet(MAC, ends, IpProtocol::Icmp, repr.buffer_len(), |bytes| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    })
}

fn guest_of(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { GUEST_V4.into() } else { GUEST_V6.into() }
}

/// Addresses at which nobody may be reached, whatever the policy says.
const NOBODYS: [&str; 21] = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "10.0.2.255",
    "10.0.2.0",
    "10.0.2.15",
    "10.0.2.77",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.2.2",
    "ff02::1",
    "ff05::1:3",
    "fd00::15",
    "fd00::77",
    "64:ff9b::7f00:1",
];

/// Addresses that need a grant of their own.
const LINK_LOCAL: [&str; 3] = ["169.254.169.254", "169.254.0.1", "fe80::5"];

#[tokio::test]
async fn frames_to_addresses_that_are_nobodys_reach_nobody() {
    let mut world = World::new();
    // Whoever dialled loopback would get here, over either protocol and family.
    let listener = TcpListener::bind("[::]:0").expect("a port");
    listener.set_nonblocking(true).expect("a mode");
    let port = listener.local_addr().expect("its address").port();
    let socket = UdpSocket::bind(("::", port)).expect("the same port");
    socket.set_nonblocking(true).expect("a mode");
    for text in NOBODYS {
        let address: IpAddr = text.parse().expect("an address");
        let to = SocketAddr::new(address, port);
        world.send(&syn(guest_of(address), to, 4000)).await;
        world.send(&datagram(MAC, guest_of(address), to, 4000)).await;
        if let IpAddr::V4(v4) = address {
            world.send(&echo(v4.octets())).await;
        }
    }
    for text in LINK_LOCAL {
        let to = SocketAddr::new(text.parse().expect("an address"), port);
        world.send(&syn(guest_of(to.ip()), to, 4000)).await;
        world.send(&datagram(MAC, guest_of(to.ip()), to, 4000)).await;
    }
    // Link-local destinations are asked about, and refused for want of a grant.
    world
        .until("the last denials", |world| {
            let denied = world.denied();
            LINK_LOCAL.iter().all(|text| {
                let to = SocketAddr::new(text.parse().expect("an address"), port);
                [Transport::Tcp, Transport::Udp]
                    .iter()
                    .all(|&transport| denied.contains(&(to, transport, DenyReason::Address)))
            })
        })
        .await;
    let asked = world.notes.0.lock().expect("not held").clone();
    let strange: Vec<_> = asked
        .iter()
        .filter(|flow| !LINK_LOCAL.contains(&flow.destination.ip().to_string().as_str()))
        .collect();
    assert!(strange.is_empty(), "asked about {strange:?}");
    assert_eq!(world.opened(), 0);
    assert!(listener.accept().is_err(), "somebody was dialled");
    assert!(socket.recv(&mut [0; 8]).is_err(), "somebody was written to");
    world.stack.shutdown().await.expect("it had not failed");
}

#[tokio::test]
async fn the_gateway_has_no_port_but_the_resolvers() {
    let mut world = World::new();
    for gateway in [IpAddr::from(GATEWAY_V4), IpAddr::from(GATEWAY_V6)] {
        let ports: Vec<u16> = (1..=u16::MAX).filter(|&port| port != 53).collect();
        for ports in ports.chunks(512) {
            let syns = ports.iter().map(|&port| {
                let frame = syn(guest_of(gateway), SocketAddr::new(gateway, port), 4000);
                [&u32::try_from(frame.len()).expect("a frame").to_be_bytes()[..], &frame].concat()
            });
            let syns: Vec<u8> = syns.flatten().collect();
            world.frames.write_all(&syns).await.expect("taken");
            for port in ports {
                let frame = world.receive().await;
                let header = if gateway.is_ipv4() { 34 } else { 54 };
                let reset = TcpPacket::new_checked(&frame[header..]).expect("a segment");
                assert!(reset.rst(), "port {port} of {gateway}");
                assert_eq!(reset.src_port(), *port);
            }
        }
    }
    let refused = world.dropped(Dropped::NotServed);
    assert_eq!(refused, 2 * 65_534);
    for port in (1..=u16::MAX).step_by(101).filter(|&port| port != 53) {
        let to = SocketAddr::new(GATEWAY_V4.into(), port);
        world.send(&datagram(MAC, GUEST_V4.into(), to, 4000)).await;
        let frame = world.receive().await;
        let ip = Ipv4Packet::new_checked(&frame[14..]).expect("a packet");
        assert_eq!(ip.next_header(), IpProtocol::Icmp, "port {port}");
    }
    assert_eq!(world.opened(), 0);
    assert!(world.notes.0.lock().expect("not held").is_empty(), "nobody is asked");
    world.stack.shutdown().await.expect("it had not failed");
}

#[tokio::test]
async fn frames_in_the_name_of_others_are_dropped_and_counted() {
    let mut world = World::new();
    let to: SocketAddr = "10.0.2.2:7".parse().expect("an endpoint");
    let to6: SocketAddr = "[fd00::2]:7".parse().expect("an endpoint");
    let macs = [[2, 0, 0, 0, 0, 8], GATEWAY_MAC.0, [0xff; 6], [0; 6], [1, 0, 0x5e, 0, 0, 1]];
    for mac in macs {
        world.send(&datagram(EthernetAddress(mac), GUEST_V4.into(), to, 4000)).await;
    }
    let sources = ["10.0.2.1", "10.0.2.3", "10.0.2.16", "127.0.0.1", "8.8.8.8", "224.0.0.1"];
    for source in sources {
        let source = source.parse().expect("an address");
        world.send(&datagram(MAC, source, to, 4000)).await;
        world.send(&syn(source, to, 4000)).await;
    }
    let sources6 = ["fd00::1", "fd00::3", "fd00::16", "::1", "2001:db8::9", "::ffff:10.0.2.15"];
    for source in sources6 {
        let source = source.parse().expect("an address");
        world.send(&datagram(MAC, source, to6, 4000)).await;
        world.send(&syn(source, to6, 4000)).await;
    }
    // A guest that says that it is the gateway.
    let lie = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: MAC,
        source_protocol_addr: GATEWAY_V4,
        target_hardware_addr: GATEWAY_MAC,
        target_protocol_addr: GATEWAY_V4,
    };
    let mut frame = vec![0; 14 + lie.buffer_len()];
    let ethertype = EthernetProtocol::Arp;
    let ethernet = EthernetRepr { src_addr: MAC, dst_addr: GATEWAY_MAC, ethertype };
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    lie.emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
    world.send(&frame).await;
    let expected = (macs.len() as u64, 2 * (sources.len() + sources6.len()) as u64 + 1);
    world
        .until("all of them", |world| {
            let counted =
                (world.dropped(Dropped::SpoofedMac), world.dropped(Dropped::SpoofedSource));
            counted == expected
        })
        .await;
    assert!(world.notes.0.lock().expect("not held").is_empty(), "nobody is asked");
    world.stack.shutdown().await.expect("it had not failed");
}
