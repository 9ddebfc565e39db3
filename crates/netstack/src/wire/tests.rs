use proptest::prelude::*;
use smoltcp::wire::EthernetAddress;

use super::*;
use crate::event::Dropped;
use crate::link::{GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6};

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

fn route(v6: bool) -> Route {
    let (source, destination) = if v6 {
        (GUEST_V6.into(), GATEWAY_V6.into())
    } else {
        (GUEST_V4.into(), GATEWAY_V4.into())
    };
    Route { mac: MAC, source, destination }
}

fn taken(outbox: &mut Outbox) -> Vec<u8> {
    let frame = outbox.first().expect("a frame").to_vec();
    outbox.drop_first();
    frame
}

fn udp(v6: bool, payload: &[u8]) -> Vec<u8> {
    let mut outbox = Outbox::new(false);
    assert!(udp_frame(&mut outbox, route(v6), (7, 9), payload, MTU_MAX));
    taken(&mut outbox)
}

fn reset(v6: bool) -> Vec<u8> {
    let mut outbox = Outbox::new(false);
    tcp_frame(&mut outbox, route(v6), (80, 40_000), (5, Some(6), true));
    taken(&mut outbox)
}

fn cause(bytes: &[u8]) -> Dropped {
    Frame::parse(bytes, Sums::Unknown).expect_err("it is wrong")
}

#[test]
fn what_is_built_can_be_read() {
    for v6 in [false, true] {
        let bytes = udp(v6, b"odd");
        let frame = Frame::parse(&bytes, Sums::Unknown).expect("a frame");
        let Link::Ip(packet) = frame.link else { panic!("no packet") };
        let Payload::Udp(datagram) = packet.payload else { panic!("no datagram") };
        let expected = Udp { source_port: 7, destination_port: 9, payload: b"odd" };
        assert_eq!(datagram, expected);
        let bytes = reset(v6);
        let frame = Frame::parse(&bytes, Sums::Unknown).expect("a frame");
        let Link::Ip(packet) = frame.link else { panic!("no packet") };
        let Payload::Tcp(segment) = packet.payload else { panic!("no segment") };
        assert!(segment.rst && segment.ack && !segment.syn && !segment.fin);
        assert_eq!((segment.sequence, segment.acknowledged, segment.length()), (5, 6, 0));
    }
}

#[test]
fn a_wrong_byte_is_noticed() {
    for v6 in [false, true] {
        for mut bytes in [udp(v6, &[7; 33]), reset(v6)] {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert_eq!(cause(&bytes), Dropped::Checksum);
            assert!(Frame::parse(&bytes, Sums::Vouched).is_ok());
        }
    }
}

#[test]
fn fragments_are_refused() {
    let mut bytes = udp(false, b"part");
    // "More fragments", and the sum that goes with it.
    bytes[20] |= 0x20;
    let sum = u16::from_be_bytes([bytes[24], bytes[25]]) - 0x2000;
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(cause(&bytes), Dropped::Fragment);
    let mut bytes = udp(true, b"part");
    bytes[20] = 44;
    assert_eq!(cause(&bytes), Dropped::Fragment);
}

#[test]
fn options_must_be_as_long_as_they_are() {
    let with = |options: &[u8]| {
        let mut bytes = reset(false);
        let padded = options.len().next_multiple_of(4);
        let total = 40 + padded;
        bytes[17] = u8::try_from(total).expect("short");
        bytes[14 + 20 + 12] = u8::try_from((20 + padded) / 4).expect("short") << 4;
        bytes.extend_from_slice(options);
        bytes.resize(14 + total, 0);
        bytes[24..26].fill(0);
        let sum = checksum::of_plain(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        Frame::parse(&bytes, Sums::Vouched).map(|_| ())
    };
    for right in [
        &[][..],
        &[2, 4, 5, 180],
        &[1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0],
        &[2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7],
        &[0, 99, 99, 99],
        &[200, 4, 0, 0],
    ] {
        assert_eq!(with(right), Ok(()), "{right:?}");
    }
    for wrong in [
        &[2, 3, 5, 1][..],
        &[2, 4, 0, 1],
        &[3, 0, 0, 0],
        &[1, 1, 1, 8],
        &[5, 11, 0, 0],
        &[8, 10, 0, 0],
        &[200, 1, 0, 0],
        &[200, 41, 0, 0],
    ] {
        assert_eq!(with(wrong), Err(Dropped::TcpOptions), "{wrong:?}");
    }
}

#[test]
fn contradictory_flags_are_refused() {
    let mut bytes = reset(false);
    // SYN beside RST.
    bytes[14 + 20 + 13] |= 2;
    assert_eq!(Frame::parse(&bytes, Sums::Vouched).expect_err("both"), Dropped::Malformed);
}

#[test]
fn a_datagram_that_is_too_long_is_not_built() {
    let mut outbox = Outbox::new(false);
    assert!(!udp_frame(&mut outbox, route(false), (1, 2), &[0; 1473], 1500));
    assert!(udp_frame(&mut outbox, route(false), (1, 2), &[0; 1472], 1500));
    assert!(!udp_frame(&mut outbox, route(false), (1, 2), &[0; 70_000], MTU_MAX));
}

#[test]
fn an_error_quotes_what_it_is_about() {
    let packet = udp(true, &[1; 5000])[ETHERNET_HEADER..].to_vec();
    let mut outbox = Outbox::new(false);
    let ends = (GUEST_V6.into(), GATEWAY_V6.into());
    refusal_frame(&mut outbox, MAC, ends, &packet, Refusal::Prohibited);
    let bytes = taken(&mut outbox);
    assert!(Frame::parse(&bytes, Sums::Unknown).is_ok());
    assert_eq!(bytes.len(), ETHERNET_HEADER + usize::from(MTU_MIN));
    assert_eq!(bytes[ETHERNET_HEADER + 48..], packet[..1232]);
}

#[test]
fn the_outbox_keeps_frames_in_order_and_knows_when_it_is_full() {
    let mut outbox = Outbox::new(true);
    let mut sent = std::collections::VecDeque::new();
    for number in 0..10_000_u32 {
        let length = 60 + (number as usize * 37) % 3000;
        outbox.push(length, |frame| {
            frame.fill(0);
            frame[..4].copy_from_slice(&number.to_be_bytes());
        });
        sent.push_back((number, VNET_HEADER + length));
        while !outbox.has_room() || (number % 3 == 0 && !outbox.is_empty()) {
            let (expected, length) = sent.pop_front().expect("as many as were added");
            let frame = taken(&mut outbox);
            assert_eq!(frame.len(), length);
            assert_eq!(frame[VNET_HEADER..][..4], expected.to_be_bytes());
            if number % 3 == 0 {
                break;
            }
        }
    }
    assert!(!outbox.is_flooded());
}

proptest! {
    /// The quick sum against the one of the RFC.
    #[test]
    fn sums_are_right(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut total = 0_u32;
        for pair in bytes.chunks(2) {
            let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            total += u32::from(word);
            total = (total & 0xffff) + (total >> 16);
        }
        let expected = !u16::try_from(total).expect("folded");
        prop_assert_eq!(checksum::of_plain(&bytes), expected);
    }

    /// Any damage to a good frame is read without a panic.
    #[test]
    fn damaged_frames_do_no_harm(
        v6 in any::<bool>(),
        length in 0..64_usize,
        damage in proptest::collection::vec((0..120_usize, any::<u8>()), 0..8),
        cut in 0..120_usize,
    ) {
        for mut bytes in [udp(v6, &vec![3; length]), reset(v6)] {
            for &(at, byte) in &damage {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let short = &bytes[..cut.min(bytes.len())];
            for sums in [Sums::Unknown, Sums::Vouched] {
                let _ = Frame::parse(&bytes, sums);
                let _ = Frame::parse(short, sums);
            }
        }
    }
}
