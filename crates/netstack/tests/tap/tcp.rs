//! TCP through the stack.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use netstack::{Config, Decision, DenyReason, Event, Flow, FlowEnd, Grants, Policy};
use socket2::{Domain, SockRef, Socket, Type};

use crate::guest::{AcceptAll, Digest, Guest, PATIENCE, noise, resident, until};

/// Any port of the host's loopback, and the address by which the guest names it.
fn ends(v6: bool) -> (&'static str, &'static str) {
    if v6 { ("[::1]:0", "fd00::2") } else { ("127.0.0.1:0", "10.0.2.2") }
}

/// A listener on the host's loopback, and its address as the guest names it.
pub(crate) fn listen(v6: bool) -> (TcpListener, SocketAddr) {
    let (real, named) = ends(v6);
    let listener = TcpListener::bind(real).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    (listener, SocketAddr::new(named.parse().expect("an address"), port))
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(to).expect("a connection"))
}

/// Takes a connection, within the time that tests have.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    SockRef::from(listener).set_read_timeout(Some(PATIENCE)).expect("a timeout");
    patient(listener.accept().expect("a connection").0)
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A connection through the stack: the guest's end and the server's.
pub(crate) fn pair(guest: &Guest, v6: bool) -> (TcpStream, TcpStream) {
    let (listener, address) = listen(v6);
    let server = thread::spawn(move || accept(&listener));
    let client = guest.run(move || connect(address));
    (client, server.join().expect("a server"))
}

pub(crate) fn digest_to_end(mut stream: &TcpStream) -> Digest {
    let (mut digest, mut buffer) = (Digest::new(), vec![0; 65_536]);
    loop {
        match stream.read(&mut buffer).expect("data") {
            0 => return digest,
            count => digest.add(&buffer[..count]),
        }
    }
}

/// Sends one end of noise each way at once, and compares what arrives.
pub(crate) fn exchange(guest: &Guest, v6: bool, length: usize) {
    let (client, server) = pair(guest, v6);
    let sides = [(client, 1), (server, 2)].map(|(stream, seed)| {
        let stream = Arc::new(stream);
        let writer = stream.clone();
        let sent = thread::spawn(move || {
            let (mut digest, mut left, mut block) = (Digest::new(), length, seed);
            while left > 0 {
                let bytes = noise(block, left.min(1 << 20));
                (&*writer).write_all(&bytes).expect("it is taken");
                digest.add(&bytes);
                left -= bytes.len();
                block += 2;
            }
            writer.shutdown(Shutdown::Write).expect("an end");
            digest
        });
        (sent, thread::spawn(move || digest_to_end(&stream)))
    });
    let [(sent_up, got_down), (sent_down, got_up)] = sides;
    assert_eq!(sent_up.join().expect("sent"), got_up.join().expect("received"));
    assert_eq!(sent_down.join().expect("sent"), got_down.join().expect("received"));
}

#[test]
fn bytes_arrive_whole_in_both_directions_at_once() {
    let test = "bytes_arrive_whole_in_both_directions_at_once";
    for guest in [Guest::new(test), Guest::at_once(test)] {
        let Some(guest) = guest else { return };
        exchange(&guest, false, 4 << 20);
        exchange(&guest, true, 4 << 20);
        guest.end();
    }
}

#[test]
fn bytes_arrive_whole_over_a_small_mtu() {
    let config = Config { mtu: 1500, ..Config::default() };
    let policy = Arc::new(AcceptAll::default());
    let Some(guest) = Guest::with("bytes_arrive_whole_over_a_small_mtu", config, policy) else {
        return;
    };
    exchange(&guest, false, 4 << 20);
    exchange(&guest, true, 4 << 20);
    guest.end();
}

#[test]
fn either_side_may_end_its_half_first() {
    let Some(guest) = Guest::new("either_side_may_end_its_half_first") else { return };
    for guest_first in [true, false] {
        let (client, server) = pair(&guest, false);
        let (mut first, mut second) = if guest_first { (client, server) } else { (server, client) };
        first.write_all(b"question").expect("sent");
        first.shutdown(Shutdown::Write).expect("an end");
        let mut text = String::new();
        second.read_to_string(&mut text).expect("up to the end");
        assert_eq!(text, "question");
        // The other half goes on.
        let answer = noise(3, 300_000);
        let expected = Digest::of(&answer);
        let writer = thread::spawn(move || second.write_all(&answer).expect("sent"));
        assert_eq!(digest_to_end(&first), expected);
        writer.join().expect("written");
    }
    until("both flows to end", || guest.stack.stats().tcp == 0);
    let ends: Vec<_> = guest.events.all().into_iter().filter_map(end_of).collect();
    assert_eq!(ends, [FlowEnd::Finished; 2]);
    guest.end();
}

pub(crate) fn end_of(event: Event) -> Option<FlowEnd> {
    match event {
        Event::Closed { end, .. } => Some(end),
        _ => None,
    }
}

#[test]
fn a_reset_goes_through_in_either_direction() {
    let Some(guest) = Guest::new("a_reset_goes_through_in_either_direction") else { return };
    for guest_resets in [true, false] {
        let (client, server) = pair(&guest, guest_resets);
        let (one, mut other) = if guest_resets { (client, server) } else { (server, client) };
        SockRef::from(&one).set_linger(Some(Duration::ZERO)).expect("a linger of 0");
        drop(one);
        let error = other.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    until("both flows to end", || guest.stack.stats().tcp == 0);
    let ends: Vec<_> = guest.events.all().into_iter().filter_map(end_of).collect();
    assert_eq!(ends, [FlowEnd::GuestReset, FlowEnd::UpstreamReset]);
    guest.end();
}

#[test]
fn the_servers_last_words_come_before_its_reset_by_close() {
    let Some(guest) = Guest::new("the_servers_last_words_come_before_its_reset_by_close") else {
        return;
    };
    let (mut client, mut server) = pair(&guest, false);
    server.write_all(b"goodbye").expect("sent");
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("up to the end");
    assert_eq!(text, "goodbye");
    drop(client);
    until("the flow to end", || guest.stack.stats().tcp == 0);
    guest.end();
}

#[test]
fn refused_is_refused_and_unreachable_is_unreachable() {
    let test = "refused_is_refused_and_unreachable_is_unreachable";
    for guest in [Guest::new(test), Guest::at_once(test)] {
        let Some(guest) = guest else { return };
        refuses(guest);
    }
}

fn refuses(guest: Guest) {
    for v6 in [false, true] {
        // A port that is taken, so that nobody else gets it, and does not listen.
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let silent = Socket::new(domain, Type::STREAM, None).expect("a socket");
        let (real, named) = ends(v6);
        let real: SocketAddr = real.parse().expect("an endpoint");
        silent.bind(&real.into()).expect("a port");
        let bound = silent.local_addr().expect("its address").as_socket().expect("an endpoint");
        let address = SocketAddr::new(named.parse().expect("an address"), bound.port());
        let error = guest.run(move || TcpStream::connect(address)).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    // Addresses of the virtual network that nobody has, and such as are never dialled.
    for literal in ["10.0.2.1:80", "[fd00::1]:80", "10.0.2.77:80"] {
        let address: SocketAddr = literal.parse().expect("an endpoint");
        let result = guest
            .run(move || TcpStream::connect_timeout(&address, Duration::from_secs(30)))
            .expect_err("nobody is there");
        assert_ne!(result.kind(), ErrorKind::TimedOut, "{literal}");
    }
    until("all flows to end", || guest.stack.stats().tcp == 0);
    guest.end();
}

struct DenyAndHang;

#[async_trait]
impl Policy for DenyAndHang {
    async fn decide(&self, flow: &Flow) -> Decision {
        match flow.destination.port() {
            1 => Decision::deny("not this one"),
            2 => std::future::pending().await,
            3 => panic!("a policy that fails"),
            _ => Decision::Accept(Grants::default()),
        }
    }
}

#[test]
fn a_flow_that_is_not_granted_is_reset_with_a_reason() {
    let config = Config { policy_deadline: Duration::from_millis(50), ..Config::default() };
    let test = "a_flow_that_is_not_granted_is_reset_with_a_reason";
    let Some(guest) = Guest::with(test, config, Arc::new(DenyAndHang)) else { return };
    for (port, expected) in
        [(1, DenyReason::Policy), (2, DenyReason::Deadline), (3, DenyReason::PolicyFailed)]
    {
        let address = SocketAddr::from(([10, 0, 2, 2], port));
        let error = guest.run(move || TcpStream::connect(address)).expect_err("not granted");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        guest.events.wait_for("the denial", |event| {
            matches!(event, Event::Denied { flow, reason, .. }
                if flow.destination == address && *reason == expected)
        });
    }
    exchange(&guest, false, 1000);
    guest.end();
}

#[test]
fn a_hanging_policy_holds_up_one_flow_only() {
    let test = "a_hanging_policy_holds_up_one_flow_only";
    let Some(guest) = Guest::with(test, Config::default(), Arc::new(DenyAndHang)) else { return };
    guest.run(|| {
        thread::spawn(|| TcpStream::connect("10.0.2.2:2"));
    });
    until("the flow to be parked", || guest.stack.stats().tcp == 1);
    exchange(&guest, false, 100_000);
    guest.stack.set_policy(Arc::new(netstack::policy::DenyAll));
    let error = guest.run(|| TcpStream::connect("10.0.2.2:4")).expect_err("the new policy");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    guest.end();
}

#[test]
fn a_reader_that_does_not_read_holds_up_the_writer_and_costs_no_memory() {
    let test = "a_reader_that_does_not_read_holds_up_the_writer_and_costs_no_memory";
    let Some(guest) = Guest::new(test) else { return };
    for guest_reads in [true, false] {
        let (client, server) = pair(&guest, false);
        let (reader, writer) = if guest_reads { (client, server) } else { (server, client) };
        let before = resident().expect("a number");
        writer.set_nonblocking(true).expect("a mode");
        let block = noise(5, 1 << 16);
        let mut sent = Digest::new();
        let mut quiet = 0;
        // Until nothing has been taken for a while.
        while quiet < 20 {
            match (&writer).write(&block) {
                Ok(count) => {
                    sent.add(&block[..count]);
                    quiet = 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    quiet += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
        let grown = resident().expect("a number").saturating_sub(before);
        assert!(grown < 8 * 1024, "{grown} KiB for a reader that does not read");
        writer.shutdown(Shutdown::Write).expect("an end");
        assert_eq!(digest_to_end(&reader), sent);
    }
    guest.end();
}
