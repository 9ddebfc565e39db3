use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use async_trait::async_trait;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;
use socket2::{Domain, Socket, Type};

use super::world::World;
use crate::event::{DenyReason, Event, FlowEnd};
use crate::flow::Flow;
use crate::link::HOST_V4;
use crate::policy::{Decision, Grants, Policy};

/// Accepts at once, but for a port over which it panics.
struct AtOnce;

const PANICS: u16 = 1;

#[async_trait]
impl Policy for AtOnce {
    async fn decide(&self, _flow: &Flow) -> Decision {
        Decision::deny("it was settled")
    }

    fn settle(&self, flow: &Flow) -> Option<Decision> {
        assert_ne!(flow.destination.port(), PANICS, "as it was told");
        Some(Decision::Accept(Grants::default()))
    }
}

fn world() -> World {
    World::with(1, [0; 3], Arc::new(AtOnce))
}

fn host(port: u16) -> SocketAddr {
    SocketAddr::new(HOST_V4.into(), port)
}

/// A listener whose queue is full, and what fills it: Linux leaves further SYNs unanswered.
fn full() -> (Socket, Vec<Socket>, u16) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let listener = socket();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let filling = (0..4).map(|_| {
        let client = socket();
        client.set_nonblocking(true).expect("a mode");
        // It is under way, or waits for ever.
        let _ = client.connect(&address);
        client
    });
    let filling = filling.collect();
    let port = address.as_socket().expect("an endpoint").port();
    (listener, filling, port)
}

#[test]
fn what_is_accepted_at_once_is_dialled_without_a_question() {
    let mut world = world();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let handle = world.connect_to(40_000, host(listener.local_addr().expect("one").port()));
    world.until("a connection", |world| world.socket(handle).may_send());
    let mut server: TcpStream = listener.accept().expect("a connection").0;
    world.socket(handle).send_slice(b"hello").expect("room");
    world.socket(handle).close();
    let mut text = String::new();
    server.set_nonblocking(true).expect("a mode");
    world.until("the end", |_| server.read_to_string(&mut text).is_ok());
    assert_eq!(text, "hello");
    drop(server);
    world.until("the flow to end", |world| world.ends() == [FlowEnd::Finished]);
    assert!(world.questions.try_recv().is_err(), "nobody is asked");
    assert_eq!(world.core.undecided, 0);
    assert_eq!(world.core.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_destination_that_does_not_answer_is_given_up_in_time() {
    let mut world = world();
    let (_listener, _filling, port) = full();
    let start = world.now;
    world.connect_to(40_000, host(port));
    world.until("the failure", |world| {
        let events = world.events.lock().expect("not held");
        events.iter().any(|event| matches!(event, Event::DialFailed { errno: 0, .. }))
    });
    assert!(world.now >= start + Duration::from_secs(20), "it had its time");
    assert!(world.core.table.ids().is_empty());
    assert_eq!(world.core.undecided, 0);
}

#[test]
fn a_guest_that_gives_up_ends_the_dialling() {
    let mut world = world();
    let (_listener, _filling, port) = full();
    let handle = world.connect_to(40_000, host(port));
    world.until("the flow", |world| !world.core.table.ids().is_empty());
    // smoltcp resets it, although it has not been made; Linux would stay silent.
    world.socket(handle).abort();
    world.until("the flow to go", |world| world.core.table.ids().is_empty());
    assert_eq!(world.core.undecided, 0);
    assert_eq!(world.core.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_policy_that_panics_at_once_denies_one_flow() {
    let mut world = world();
    let handle = world.connect_to(40_000, host(PANICS));
    world.until("the question", |world| world.core.undecided == 1);
    // The broker is told the verdict, and would refuse.
    let id = world.denied_question();
    let answer = crate::policy::Answer::Denied(id, DenyReason::Policy, "no".to_owned());
    world.core.answer(answer, world.now);
    world.until("a reset", |world| world.socket(handle).state() == tcp::State::Closed);
}
