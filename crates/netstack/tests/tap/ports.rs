//! Connections from the host to ports of the guest.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use netstack::{Config, ConnectGuestError, Event, FlowEnd, Limits, Origin, Published};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::guest::{AcceptAll, Digest, Guest, MAC, noise, until};
use crate::tcp::{accept, connect, digest_to_end, end_of, patient};

const HOST_V4: &str = "10.0.2.2";
const HOST_V6: &str = "fd00::2";

/// A guest that can be reached before it has spoken.
fn guest_with(test: &str, config: Config) -> Option<Guest> {
    let config = Config { guest_mac: Some(MAC), ..config };
    Guest::with(test, config, Arc::new(AcceptAll::default()))
}

/// A listener in the guest.
fn listen(guest: &Guest, at: &'static str) -> (TcpListener, u16) {
    let listener = guest.run(move || TcpListener::bind(at)).expect("a port of the guest");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// A listener on the host that leads there.
fn publish(guest: &Guest, at: &str, port: u16) -> Published {
    let listener = guest.runtime.block_on(tokio::net::TcpListener::bind(at)).expect("a port");
    guest.stack.guest_ports().publish(listener, port).expect("published")
}

/// A connection from the host to the guest: both ends.
fn pair(guest: &Guest, host: &str, inside: &'static str) -> (TcpStream, TcpStream, Published) {
    let (listener, port) = listen(guest, inside);
    let published = publish(guest, host, port);
    let client = connect(published.local_addr());
    (client, accept(&listener), published)
}

#[test]
fn a_published_port_leads_into_the_guest_and_asks_nobody() {
    let test = "a_published_port_leads_into_the_guest_and_asks_nobody";
    let policy = Arc::new(AcceptAll::default());
    let config = Config { guest_mac: Some(MAC), ..Config::default() };
    let Some(guest) = Guest::with(test, config, policy.clone()) else { return };
    // A server of one family is found from either.
    for (host, inside, seen) in [
        ("127.0.0.1:0", "0.0.0.0:0", HOST_V4),
        ("[::1]:0", "0.0.0.0:0", HOST_V4),
        ("127.0.0.1:0", "[fd00::15]:0", HOST_V6),
        ("[::1]:0", "[::]:0", HOST_V6),
    ] {
        let (mut client, mut server, _published) = pair(&guest, host, inside);
        let peer = server.peer_addr().expect("a peer").ip();
        assert_eq!(peer, seen.parse::<IpAddr>().expect("an address"), "{host} to {inside}");
        client.write_all(b"question").expect("sent");
        client.shutdown(Shutdown::Write).expect("an end");
        let mut text = String::new();
        server.read_to_string(&mut text).expect("up to the end");
        assert_eq!(text, "question");
        let answer = noise(3, 300_000);
        let expected = Digest::of(&answer);
        let writer = thread::spawn(move || server.write_all(&answer).expect("sent"));
        assert_eq!(digest_to_end(&client), expected);
        writer.join().expect("written");
    }
    until("all flows to end", || guest.stack.stats().tcp == 0);
    assert_eq!(policy.0.load(Ordering::Relaxed), 0);
    let events = guest.events.all();
    let opened = events
        .iter()
        .filter(|event| matches!(event, Event::Opened { flow } if flow.origin == Origin::Host));
    assert_eq!(opened.count(), 4);
    let ended = events.into_iter().filter_map(end_of).collect::<Vec<_>>();
    assert_eq!(ended, [FlowEnd::Finished; 4]);
    let stats = guest.stack.stats();
    assert_eq!((stats.received, stats.sent), (4 * 8, 4 * 300_000));
    guest.end();
}

#[test]
fn a_connection_into_the_guest_carries_resets_either_way() {
    let test = "a_connection_into_the_guest_carries_resets_either_way";
    let Some(guest) = guest_with(test, Config::default()) else { return };
    for guest_resets in [true, false] {
        let (client, server, _published) = pair(&guest, "127.0.0.1:0", "0.0.0.0:0");
        let (one, mut other) = if guest_resets { (server, client) } else { (client, server) };
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
fn a_port_of_the_guest_where_nobody_listens_refuses() {
    let test = "a_port_of_the_guest_where_nobody_listens_refuses";
    let Some(guest) = guest_with(test, Config::default()) else { return };
    // Taken, so that nobody else gets it, and not listening.
    let silent = guest.run(|| {
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "0.0.0.0:0".parse().expect("an endpoint");
        silent.bind(&any.into()).expect("a port");
        silent
    });
    let port = silent.local_addr().expect("its address").as_socket().expect("an endpoint").port();
    let ports = guest.stack.guest_ports();
    let error = guest.runtime.block_on(ports.connect(port)).expect_err("nobody listens");
    assert!(matches!(error, ConnectGuestError::Refused), "{error:?}");
    let error = guest.runtime.block_on(ports.connect(0)).expect_err("no port");
    assert!(matches!(error, ConnectGuestError::PortZero), "{error:?}");
    let published = publish(&guest, "127.0.0.1:0", port);
    let mut client = patient(connect(published.local_addr()));
    assert_eq!(client.read(&mut [0]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    guest.events.wait_for("the failure", |event| {
        matches!(event, Event::DialFailed { flow, errno }
            if flow.origin == Origin::Host && *errno == libc::ECONNREFUSED)
    });
    until("the flows to be gone", || guest.stack.stats().tcp == 0);
    guest.end();
}

#[test]
fn a_guest_that_does_not_answer_is_waited_for_only_so_long() {
    let test = "a_guest_that_does_not_answer_is_waited_for_only_so_long";
    let timeout = Duration::from_millis(300);
    let config = Config { guest_connect_timeout: timeout, ..Config::default() };
    let Some(guest) = guest_with(test, config) else { return };
    // Its addresses are gone, and it drops what is not for it.
    guest.run(|| crate::guest::ip("address flush dev tap0 scope global"));
    let ports = guest.stack.guest_ports();
    let error = guest.runtime.block_on(ports.connect(80)).expect_err("nobody answers");
    assert!(matches!(error, ConnectGuestError::TimedOut), "{error:?}");
    guest.events.wait_for("the failure", |event| {
        matches!(event, Event::DialFailed { flow, errno: 0 } if flow.origin == Origin::Host)
    });
    until("the flow to be gone", || guest.stack.stats().tcp == 0);
    guest.end();
}

#[test]
fn connections_into_the_guest_have_a_limit_of_their_own() {
    let test = "connections_into_the_guest_have_a_limit_of_their_own";
    let limits = Limits { inbound: 2, ..Limits::default() };
    let config = Config { limits, ..Config::default() };
    let Some(guest) = guest_with(test, config) else { return };
    let (listener, port) = listen(&guest, "0.0.0.0:0");
    let ports = guest.stack.guest_ports();
    let streams = guest.runtime.block_on(async {
        let streams = [ports.connect(port).await, ports.connect(port).await];
        let error = ports.connect(port).await.expect_err("one too many");
        assert!(matches!(error, ConnectGuestError::Limit), "{error:?}");
        streams
    });
    drop(streams);
    let servers = [accept(&listener), accept(&listener)];
    for mut server in servers {
        assert_eq!(server.read(&mut [0]).expect("an end"), 0);
    }
    until("the flows to end", || guest.stack.stats().tcp == 0);
    guest.runtime.block_on(ports.connect(port)).expect("room again");
    guest.end();
}

#[test]
fn a_stream_into_the_guest_is_a_pair_of_halves() {
    let test = "a_stream_into_the_guest_is_a_pair_of_halves";
    let Some(guest) = guest_with(test, Config::default()) else { return };
    let (listener, port) = listen(&guest, "0.0.0.0:0");
    let echo = guest.run(move || {
        thread::spawn(move || {
            let mut stream = accept(&listener);
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("a question");
            stream.write_all(&bytes).expect("an answer");
        })
    });
    let question = noise(7, 400_000);
    let answer = guest.runtime.block_on(async {
        let mut stream = guest.stack.guest_ports().connect(port).await.expect("a connection");
        stream.write_all(&question).await.expect("sent");
        stream.shutdown().await.expect("an end");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        answer
    });
    assert_eq!(Digest::of(&answer), Digest::of(&question));
    echo.join().expect("served");
    guest.end();
}

#[test]
fn a_port_that_is_no_longer_published_is_free_and_its_connections_go_on() {
    let test = "a_port_that_is_no_longer_published_is_free_and_its_connections_go_on";
    let Some(guest) = guest_with(test, Config::default()) else { return };
    let (mut client, mut server, published) = pair(&guest, "127.0.0.1:0", "0.0.0.0:0");
    let address = published.local_addr();
    guest.runtime.block_on(published.close());
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    client.write_all(b"still here").expect("sent");
    let mut bytes = [0; 10];
    server.read_exact(&mut bytes).expect("received");
    assert_eq!(&bytes, b"still here");
    // The end of the network ends the listener and the connection too.
    let (_listener, port) = listen(&guest, "0.0.0.0:0");
    let published = publish(&guest, "127.0.0.1:0", port);
    let (address, ports) = (published.local_addr(), guest.stack.guest_ports());
    let Guest { stack, runtime, .. } = guest;
    runtime.block_on(stack.shutdown()).expect("it had not failed");
    assert!(client.read(&mut [0]).is_err(), "reset");
    until("the listener to go", || TcpStream::connect(address).is_err());
    let error = runtime.block_on(ports.connect(port)).expect_err("nobody is there");
    assert!(matches!(error, ConnectGuestError::Ended), "{error:?}");
}

#[test]
fn two_hundred_clients_of_one_port_are_served() {
    let test = "two_hundred_clients_of_one_port_are_served";
    let Some(guest) = guest_with(test, Config::default()) else { return };
    const COUNT: usize = 200;
    let (listener, port) = listen(&guest, "0.0.0.0:0");
    let server = thread::spawn(move || {
        for _ in 0..COUNT {
            let mut stream = accept(&listener);
            let mut bytes = [0; 4];
            stream.read_exact(&mut bytes).expect("a question");
            stream.write_all(&bytes).expect("an answer");
        }
    });
    let published = publish(&guest, "127.0.0.1:0", port);
    let address = published.local_addr();
    let clients: Vec<_> = (0..COUNT).map(|_| connect(address)).collect();
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(format!("{number:04}").as_bytes()).expect("sent");
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, format!("{number:04}"));
    }
    server.join().expect("all of them");
    until("all flows to end", || guest.stack.stats().tcp == 0);
    guest.end();
}
