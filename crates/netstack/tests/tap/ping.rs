//! Echo requests.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::guest::{Guest, PATIENCE};

const IDENTIFIER: [u8; 2] = [0x6c, 0x62];
const PAYLOAD: &[u8] = b"are you there?";

/// Sends an echo request from the guest and waits for its answer.
fn ping(to: IpAddr) {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let rest = [&IDENTIFIER[..], &[0, 1], PAYLOAD].concat();
    let mut message = [&[request, 0, 0, 0][..], &rest].concat();
    // The system fills in the sum for IPv6 only.
    if to.is_ipv4() {
        let sum = sum(&message);
        message[2..4].copy_from_slice(&sum);
    }
    socket.send_to(&message, &SocketAddr::new(to, 0).into()).expect("sent");
    let mut buffer = [0; 1500];
    loop {
        let count = socket.read(&mut buffer).expect("an answer");
        // For IPv4 the packet's header comes too. Other messages are neighbours', or our own.
        let header = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let message = &buffer[header..count];
        if message.starts_with(&[reply, 0]) && message[4..] == rest {
            return;
        }
    }
}

/// The Internet checksum.
fn sum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!u16::try_from(folded).expect("folded")).to_be_bytes()
}

#[test]
fn the_gateway_answers_for_itself() {
    let Some(guest) = Guest::new("the_gateway_answers_for_itself") else { return };
    for address in ["10.0.2.1", "fd00::1"] {
        let address = address.parse().expect("an address");
        guest.run(move || ping(address));
    }
    // Nothing of this is a flow.
    assert_eq!(guest.stack.stats().icmp, 0);
    guest.end();
}
