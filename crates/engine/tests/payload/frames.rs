//! The network device (virtio 1.2, 5.1): frames both ways.

use std::os::unix::net::UnixStream as Socket;

use engine::probe::EngineKind;
use engine::{NetworkSpec, VmSpec};
use payload_guest::{Chain, Guest, checksum, pattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::on_every_engine;
use crate::support::{boot, spec};

on_every_engine! {
    frames_of_every_size_go_both_ways,
    frames_that_find_no_room_wait_or_are_lost_and_the_next_come,
    a_socket_that_hangs_up_leaves_the_machine_alone,
}

const NETWORK: u32 = 1;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Feature bits (virtio 1.2, 5.1.3): MTU, MAC, and what every device has.
const FEATURES: u64 = 1 << 3 | 1 << 5 | 1 << 32;
/// Before each frame, when `VIRTIO_F_VERSION_1` is agreed upon.
const HEADER: usize = 12;
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x15];
const PEER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const MTU: u16 = 65_520;
const ETHERNET: usize = 14;
/// Of the largest frame.
const LARGEST: usize = MTU as usize + ETHERNET;

/// A frame to `to`, of a type for experiments (RFC 5342, B.2), with a pattern in it.
fn frame(to: [u8; 6], from: [u8; 6], length: usize, seed: u64) -> Vec<u8> {
    [&to[..], &from, &[0x88, 0xb5], &pattern(length - ETHERNET, seed)].concat()
}

/// A machine with a network, and the other end of its frames.
async fn networked(kind: EngineKind) -> (engine::Vm, Guest, UnixStream, usize) {
    let (ours, frames) = Socket::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let network = Some(NetworkSpec { frames, mac: MAC, mtu: MTU });
    let (vm, mut guest) = boot(kind, VmSpec { network, ..spec() }).await;
    let [device] = &guest.devices_of(NETWORK).await.unwrap()[..] else { panic!("one device") };
    assert_eq!(device.features & FEATURES, FEATURES, "{device:?}");
    assert_eq!(guest.set_up(device.number, FEATURES).await.unwrap(), FEATURES);
    (vm, guest, UnixStream::from_std(ours).unwrap(), device.number)
}

async fn receive(socket: &mut UnixStream) -> Vec<u8> {
    let length = socket.read_u32().await.unwrap();
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut frame).await.unwrap();
    frame
}

async fn send(socket: &mut UnixStream, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap();
    socket.write_all(&[&length.to_be_bytes(), frame].concat()).await.unwrap();
}

/// Has the guest take a frame, and tells whether it is this one.
async fn takes(guest: &mut Guest, device: usize, frame: &[u8]) -> bool {
    let (taken, _) = guest.take(device, RECEIVE).await.unwrap();
    let length = usize::try_from(taken.length).unwrap() - HEADER;
    // The rest of the room is as the guest left it, and the header before it says nothing but
    // that it is one buffer, if that.
    let rest = &taken.inputs[0];
    let head = &rest.bytes[..HEADER];
    let mut expected = [head, frame].concat();
    expected.resize(rest.length, 0xff);
    assert!(head[..10].iter().all(|byte| *byte == 0), "{head:?}");
    length == frame.len() && checksum(&expected) == rest.sum
}

pub(crate) async fn frames_of_every_size_go_both_ways(kind: EngineKind) {
    let (_vm, mut guest, mut socket, device) = networked(kind).await;
    let config = guest.bytes(&format!("config {device} 0 12")).await.unwrap();
    assert_eq!((&config[..6], &config[10..]), (&MAC[..], &MTU.to_le_bytes()[..]));
    for (length, seed) in [(60, 1), (61, 2), (1514, 3), (9000, 4), (LARGEST, 5), (60, 6)] {
        let sent = frame(PEER, MAC, length, seed);
        let head = [&[0; HEADER][..], &sent[..ETHERNET]].concat();
        let chain = Chain::out(&head).and_pattern(length - ETHERNET, seed);
        guest.run(device, TRANSMIT, &chain).await.unwrap();
        assert!(receive(&mut socket).await == sent, "{length} bytes out");

        guest.post(device, RECEIVE, &Chain::input(HEADER + LARGEST)).await.unwrap();
        let answer = frame(MAC, PEER, length, seed << 32);
        send(&mut socket, &answer).await;
        assert!(takes(&mut guest, device, &answer).await, "{length} bytes in");
    }
}

async fn frames_that_find_no_room_wait_or_are_lost_and_the_next_come(kind: EngineKind) {
    let (_vm, mut guest, mut socket, device) = networked(kind).await;
    // Nothing to receive them with. A device may keep or drop them.
    let early: Vec<_> = (0..8).map(|seed| frame(MAC, PEER, 1514, seed)).collect();
    for frame in &early {
        send(&mut socket, frame).await;
    }
    let room = Chain::input(HEADER + LARGEST);
    for _ in 0..16 {
        guest.post(device, RECEIVE, &room).await.unwrap();
    }
    let last = frame(MAC, PEER, 900, 99);
    send(&mut socket, &last).await;
    for round in 0.. {
        assert!(round <= early.len(), "the last comes");
        let (taken, _) = guest.take(device, RECEIVE).await.unwrap();
        if usize::try_from(taken.length).unwrap() == HEADER + last.len() {
            break;
        }
    }
}

async fn a_socket_that_hangs_up_leaves_the_machine_alone(kind: EngineKind) {
    let (_vm, mut guest, socket, device) = networked(kind).await;
    drop(socket);
    let chain = Chain::out(&[0; HEADER]).and_out(&frame(PEER, MAC, 60, 1));
    for _ in 0..4 {
        guest.run(device, TRANSMIT, &chain).await.unwrap();
    }
    assert!(guest.set_up(device, FEATURES).await.is_ok());
}
