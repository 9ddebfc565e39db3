use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use tokio::sync::oneshot;

use super::super::ConnectGuestError;
use super::super::inbound::Dial;
use super::world::World;
use crate::event::{Event, FlowEnd};
use crate::flow::{FlowId, Origin};
use crate::tcp::Upstream;

const PORT: u16 = 8080;

type Outcome = oneshot::Receiver<Result<FlowId, ConnectGuestError>>;

fn listen(world: &mut World) -> SocketHandle {
    let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.listen(PORT).expect("a new socket");
    world.sockets.add(socket)
}

/// Dials. The client's end, and what becomes of it.
fn dial(world: &mut World, v6: bool) -> (UnixStream, Outcome) {
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    for socket in [&ours, &theirs] {
        socket.set_nonblocking(true).expect("a mode");
    }
    let (reply, outcome) = oneshot::channel();
    let client = Upstream::socket(theirs.into());
    world.core.dial(Dial { port: PORT, v6, client, reply }, world.now);
    (ours, outcome)
}

fn outcome(world: &mut World, mut outcome: Outcome) -> Result<FlowId, ConnectGuestError> {
    let mut found = None;
    world.until("an outcome", |_| {
        found = outcome.try_recv().ok();
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn a_connection_into_the_guest_survives_bad_weather() {
    for seed in 1..6 {
        let mut world = World::new(seed, [5, 5, 2000]);
        let handle = listen(&mut world);
        let (mut client, result) = dial(&mut world, false);
        outcome(&mut world, result).expect("a connection");
        let bytes = super::world::noise(seed, 50_000);
        let (mut sent, mut got, mut ended) = (0, Vec::new(), false);
        world.until("the bytes", |world| {
            let socket = world.socket(handle);
            if socket.may_send() && sent < bytes.len() {
                sent += socket.send_slice(&bytes[sent..]).expect("it may");
            }
            // Not before all has been acknowledged: the guest, smoltcp 0.14 itself, never repeats a
            // FIN that three duplicate acknowledgements came for.
            if sent == bytes.len() && socket.send_queue() == 0 {
                socket.close();
            }
            let mut buffer = [0; 4096];
            match client.read(&mut buffer) {
                Ok(count) => {
                    got.extend_from_slice(&buffer[..count]);
                    ended = count == 0;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            ended
        });
        assert!(got == bytes, "what came has changed");
        drop(client);
        world.until("the flow to end", |world| world.ends() == [FlowEnd::Finished]);
        assert!(world.core.table.ids().is_empty());
        assert_eq!(world.core.inbound.count, 0);
        assert!(world.questions.try_recv().is_err(), "nobody is asked");
    }
}

#[test]
fn an_address_that_is_silent_is_left_for_the_other_and_remembered() {
    let mut world = World::new(1, [0; 3]);
    // The guest has no address of IPv6.
    listen(&mut world);
    let start = world.now;
    let (_first, result) = dial(&mut world, true);
    outcome(&mut world, result).expect("a connection");
    assert!(world.now >= start + Duration::from_secs(10), "IPv6 was tried");
    listen(&mut world);
    let start = world.now;
    let (_second, result) = dial(&mut world, true);
    outcome(&mut world, result).expect("a connection");
    assert!(world.now < start + Duration::from_secs(1), "IPv6 was not tried again");
}

#[test]
fn a_guest_that_refuses_is_not_waited_for() {
    let mut world = World::new(1, [0; 3]);
    let start = world.now;
    let (mut client, result) = dial(&mut world, false);
    let error = outcome(&mut world, result).expect_err("nobody listens");
    assert!(matches!(error, ConnectGuestError::Refused), "{error:?}");
    // The guest resolves our address, hears the SYN again, and the other address has its chance.
    assert!(world.now < start + Duration::from_secs(5));
    assert_eq!(client.read(&mut [0]).expect("it has been dropped"), 0);
    let failed = world.events.lock().expect("not held").iter().any(|event| {
        matches!(event, Event::DialFailed { flow, errno: libc::ECONNREFUSED }
            if flow.origin == Origin::Host)
    });
    assert!(failed);
    assert!(world.core.table.ids().is_empty());
    assert_eq!(world.core.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_guest_that_answers_nothing_is_given_up_in_time() {
    let mut world = World::new(1, [0; 3]);
    world.up.lost = 100;
    let start = world.now;
    let (_client, result) = dial(&mut world, false);
    let error = outcome(&mut world, result).expect_err("nobody answers");
    assert!(matches!(error, ConnectGuestError::TimedOut), "{error:?}");
    let waited = world.now - start;
    assert!(waited >= Duration::from_secs(20) && waited < Duration::from_secs(21), "{waited}");
    assert_eq!(world.core.inbound.count, 0);
    assert_eq!(world.core.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_dial_that_nobody_waits_for_leaves_nothing_behind() {
    let mut world = World::new(1, [0; 3]);
    world.up.lost = 100;
    let (_client, result) = dial(&mut world, false);
    drop(result);
    world.until("the flow to go", |world| world.core.table.ids().is_empty());
    assert_eq!(world.core.inbound.count, 0);
}
