//! Frames as a hostile guest writes them: no panic, and the stack ends when it is told to.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use netstack::device::Device;
use netstack::{
    Config, Decision, Flow, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, GuestStream,
    HOST_V4, Observer, Policy, Resolver, Stack,
};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv6Packet, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpPacket, UdpPacket,
};
use tokio::runtime::Runtime;

const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Echoes what the resolver is asked; everything else is denied, and so nothing is dialled.
struct Echo;

#[async_trait]
impl Policy for Echo {
    async fn decide(&self, flow: &Flow) -> Decision {
        if flow.is_to_resolver() { Decision::Resolve(Arc::new(Self)) } else { Decision::deny("no") }
    }
}

#[async_trait]
impl Resolver for Echo {
    async fn answer(&self, _flow: &Flow, query: Bytes) -> Option<Bytes> {
        Some(query)
    }

    async fn serve(&self, _flow: Flow, stream: GuestStream) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    }
}

/// A frame with right addresses, lengths and sums around what the input says; or the input as it is.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    if kind & 0x80 != 0 {
        return body.to_vec();
    }
    let v6 = kind & 1 != 0;
    let protocol = match kind >> 1 & 3 {
        0 | 1 => IpProtocol::Tcp,
        2 => IpProtocol::Udp,
        _ if v6 => IpProtocol::Icmpv6,
        _ => IpProtocol::Icmp,
    };
    let header = if v6 { 40 } else { 20 };
    let mut bytes = vec![0; 14 + header + body.len()];
    bytes[14 + header..].copy_from_slice(body);
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes[..]);
    ethernet.set_src_addr(EthernetAddress(GUEST_MAC));
    ethernet.set_dst_addr(GATEWAY_MAC);
    ethernet.set_ethertype(if v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 });
    let (packet, payload) = bytes[14..].split_at_mut(header);
    let (payload_len, hop_limit, next_header) = (body.len(), 255, protocol);
    if v6 {
        let (src_addr, dst_addr) = (GUEST_V6, GATEWAY_V6);
        let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
        repr.emit(&mut Ipv6Packet::new_unchecked(packet));
    } else {
        let (src_addr, dst_addr) = (GUEST_V4, if kind & 8 != 0 { HOST_V4 } else { GATEWAY_V4 });
        let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
        repr.emit(&mut Ipv4Packet::new_unchecked(packet), &ChecksumCapabilities::default());
    }
    let (source, destination) = if v6 {
        (GUEST_V6.into(), GATEWAY_V6.into())
    } else {
        (GUEST_V4.into(), if kind & 8 != 0 { HOST_V4.into() } else { GATEWAY_V4.into() })
    };
    match protocol {
        IpProtocol::Tcp if payload.len() >= 20 => {
            TcpPacket::new_unchecked(payload).fill_checksum(&source, &destination);
        }
        IpProtocol::Udp if UdpPacket::new_checked(&payload[..]).is_ok() => {
            UdpPacket::new_unchecked(payload).fill_checksum(&source, &destination);
        }
        IpProtocol::Icmp if payload.len() >= 4 => {
            Icmpv4Packet::new_unchecked(payload).fill_checksum();
        }
        IpProtocol::Icmpv6 if payload.len() >= 4 => {
            Icmpv6Packet::new_unchecked(payload).fill_checksum(&GUEST_V6, &GATEWAY_V6);
        }
        _ => {}
    }
    bytes
}

/// The input is a row of frames: a byte of length, the kind, and the body.
fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [length, kind, rest @ ..] = input {
        let (body, after) = rest.split_at(usize::from(*length).min(rest.len()));
        input = after;
        let frame = frame(*kind, body);
        stream.extend_from_slice(&u32::try_from(frame.len()).unwrap_or(0).to_be_bytes());
        stream.extend_from_slice(&frame);
    }
    stream
}

fuzz_target!(|input: &[u8]| {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"));
    let (mut guest, ours) = UnixStream::pair().expect("two sockets");
    let device = Device::frame_socket(ours).expect("a device");
    let config = Config { guest_mac: Some(GUEST_MAC), ..Config::default() };
    let policy = Arc::new(Echo);
    let stack = Stack::start(config, device, policy, Observer::default(), runtime.handle());
    let mut stack = stack.expect("a stack");
    // A connection into the guest, which the input may answer: it comes from port 1024.
    let ports = stack.guest_ports();
    let dial = runtime.spawn(async move { ports.connect(80).await });
    guest.set_nonblocking(true).expect("a mode");
    // What does not fit in the socket's buffer is not sent.
    let _ = guest.write(&frames(input));
    drop(guest);
    // A timer is made inside of the runtime.
    let ended = async { tokio::time::timeout(Duration::from_secs(10), stack.ended()).await };
    let ended = runtime.block_on(ended);
    ended.expect("it ends").expect("it does not fail");
    let _ = runtime.block_on(dial).expect("no panic");
});
