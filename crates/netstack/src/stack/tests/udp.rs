use std::os::unix::net::UnixDatagram;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;
use smoltcp::time::Duration;
use smoltcp::wire::IpAddress;

use super::world::World;
use crate::event::FlowEnd;

fn socket(world: &mut World, port: u16) -> SocketHandle {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(port).expect("a new socket");
    world.sockets.add(socket)
}

fn send(world: &mut World, handle: SocketHandle, bytes: &[u8]) {
    let to = (IpAddress::v4(192, 0, 2, 1), 5000);
    world.sockets.get_mut::<udp::Socket>(handle).send_slice(bytes, to).expect("room");
}

fn received(world: &mut World, handle: SocketHandle) -> Option<Vec<u8>> {
    world.sockets.get_mut::<udp::Socket>(handle).recv().ok().map(|(bytes, _)| bytes.to_vec())
}

/// Accepts the next flow. Returns the upstream's end of it.
fn accept(world: &mut World) -> UnixDatagram {
    let (ours, theirs) = UnixDatagram::pair().expect("two sockets");
    ours.set_nonblocking(true).expect("a mode");
    world.accept_with(theirs.into());
    ours
}

fn arrived(world: &mut World, upstream: &UnixDatagram) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut length = None;
    world.until("a datagram", |_| {
        length = upstream.recv(&mut buffer).ok();
        length.is_some()
    });
    buffer[..length.expect("it came")].to_vec()
}

#[test]
fn a_flow_that_only_the_guest_speaks_in_lives_half_a_minute() {
    let mut world = World::new(1, [0; 3]);
    let handle = socket(&mut world, 4000);
    send(&mut world, handle, b"one");
    let upstream = accept(&mut world);
    assert_eq!(arrived(&mut world, &upstream), b"one");
    let start = world.now;
    world.until("the end", |world| world.ends() == [FlowEnd::Expired]);
    let lived = world.now - start;
    assert!(lived >= Duration::from_secs(29) && lived < Duration::from_secs(31), "{lived}");
    assert!(world.core.table.ids().is_empty());
    assert_eq!(world.core.next_deadline(), None, "nothing is left to do");
    // What comes after is a new flow, and a new question.
    send(&mut world, handle, b"two");
    let upstream = accept(&mut world);
    assert_eq!(arrived(&mut world, &upstream), b"two");
}

#[test]
fn a_flow_that_both_speak_in_lives_three_minutes_from_the_last_word() {
    let mut world = World::new(1, [0; 3]);
    let handle = socket(&mut world, 4000);
    send(&mut world, handle, b"question");
    let upstream = accept(&mut world);
    assert_eq!(arrived(&mut world, &upstream), b"question");
    let mut last = world.now;
    for _ in 0..3 {
        upstream.send(b"answer").expect("sent");
        let mut answer = None;
        world.until("the answer", |world| {
            answer = received(world, handle);
            answer.is_some()
        });
        assert_eq!(answer.as_deref(), Some(&b"answer"[..]));
        last = world.now;
        let end = world.now + Duration::from_secs(150);
        world.until("two minutes and a half", |world| world.now >= end);
        assert_eq!(world.ends(), [], "it was spoken in");
    }
    world.until("the end", |world| world.ends() == [FlowEnd::Expired]);
    let lived = world.now - last;
    assert!(lived >= Duration::from_secs(179) && lived < Duration::from_secs(181), "{lived}");
}

#[test]
fn a_server_may_speak_on_when_the_guest_has_fallen_silent() {
    let mut world = World::new(1, [0; 3]);
    let handle = socket(&mut world, 4000);
    send(&mut world, handle, b"subscribe");
    let upstream = accept(&mut world);
    arrived(&mut world, &upstream);
    for number in 0..20_u8 {
        upstream.send(&[number]).expect("sent");
        let end = world.now + Duration::from_secs(60);
        let mut news = None;
        world.until("a minute", |world| {
            news = received(world, handle).or_else(|| news.take());
            world.now >= end
        });
        assert_eq!(news, Some(vec![number]));
    }
    assert_eq!(world.ends(), []);
}
