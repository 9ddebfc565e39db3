//! UDP through the stack.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use netstack::{Config, Decision, Event, Flow, Grants, GuestStream, Policy, Resolver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::guest::{AcceptAll, Guest, PATIENCE, noise};

fn socket(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn connected(to: SocketAddr) -> UdpSocket {
    let socket = socket(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
    socket.connect(to).expect("a destination");
    socket
}

#[test]
fn datagrams_go_both_ways_and_one_question_is_asked() {
    let test = "datagrams_go_both_ways_and_one_question_is_asked";
    let policy = Arc::new(AcceptAll::default());
    let Some(guest) = Guest::with(test, Config::default(), policy.clone()) else { return };
    for (real, named) in [("127.0.0.1:0", "10.0.2.2"), ("[::1]:0", "fd00::2")] {
        let server = socket(real);
        let port = server.local_addr().expect("its address").port();
        let to = SocketAddr::new(named.parse().expect("an address"), port);
        let client = guest.run(move || connected(to));
        for (seed, length) in [(1, 0), (2, 1), (3, 1400), (4, 60_000)] {
            let bytes = noise(seed, length);
            let mut buffer = vec![0; 65_536];
            client.send(&bytes).expect("sent");
            let (count, from) = server.recv_from(&mut buffer).expect("it came");
            assert_eq!(buffer[..count], bytes);
            server.send_to(&bytes, from).expect("answered");
            let count = client.recv(&mut buffer).expect("it came back");
            assert_eq!(buffer[..count], bytes);
        }
    }
    assert_eq!(policy.0.load(Ordering::Relaxed), 2);
    guest.end();
}

#[test]
fn a_port_that_nobody_has_is_refused() {
    let Some(guest) = Guest::new("a_port_that_nobody_has_is_refused") else { return };
    for (real, named) in [("127.0.0.1:0", "10.0.2.2"), ("[::1]:0", "fd00::2")] {
        // Connected to itself, it keeps the port from others and takes nothing from them.
        let deaf = socket(real);
        let bound = deaf.local_addr().expect("its address");
        deaf.connect(bound).expect("a destination");
        let to = SocketAddr::new(named.parse().expect("an address"), bound.port());
        let client = guest.run(move || connected(to));
        client.send(b"anybody?").expect("sent");
        let error = client.recv(&mut [0; 8]).expect_err("nobody");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{named}");
    }
    guest.end();
}

#[test]
fn a_denied_datagram_is_answered_with_prohibited() {
    let test = "a_denied_datagram_is_answered_with_prohibited";
    let policy = Arc::new(netstack::policy::DenyAll);
    let Some(guest) = Guest::with(test, Config::default(), policy) else { return };
    for (to, expected) in [("10.0.2.2:9", libc::EHOSTUNREACH), ("[fd00::2]:9", libc::EACCES)] {
        let to: SocketAddr = to.parse().expect("an endpoint");
        let client = guest.run(move || connected(to));
        client.send(b"let me").expect("sent");
        let error = client.recv(&mut [0; 8]).expect_err("denied");
        assert_eq!(error.raw_os_error(), Some(expected), "{to}");
        // The policy is not asked about the next one.
        client.send(b"let me").expect("sent");
        client.recv(&mut [0; 8]).expect_err("denied");
    }
    let denials = |event: &Event| matches!(event, Event::Denied { .. });
    assert_eq!(guest.events.all().iter().filter(|event| denials(event)).count(), 2);
    guest.end();
}

/// Answers a query with itself, backwards.
struct Backwards;

#[async_trait]
impl Resolver for Backwards {
    async fn answer(&self, flow: &Flow, query: Bytes) -> Option<Bytes> {
        assert!(flow.is_to_resolver());
        (query.as_ref() != b"silence").then(|| query.iter().rev().copied().collect())
    }

    async fn serve(&self, _flow: Flow, mut stream: GuestStream) {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("a query");
        bytes.reverse();
        stream.write_all(&bytes).await.expect("taken");
        stream.shutdown().await.expect("an end");
    }
}

struct ResolveOnly;

#[async_trait]
impl Policy for ResolveOnly {
    async fn decide(&self, flow: &Flow) -> Decision {
        if flow.is_to_resolver() {
            Decision::Resolve(Arc::new(Backwards))
        } else {
            Decision::Accept(Grants::default())
        }
    }
}

#[test]
fn the_gateways_port_53_leads_to_the_resolver() {
    use std::io::{Read as _, Write as _};
    let test = "the_gateways_port_53_leads_to_the_resolver";
    let Some(guest) = Guest::with(test, Config::default(), Arc::new(ResolveOnly)) else { return };
    for gateway in ["10.0.2.1:53", "[fd00::1]:53"] {
        let to: SocketAddr = gateway.parse().expect("an endpoint");
        let client = guest.run(move || connected(to));
        client.send(b"silence").expect("sent");
        client.send(b"query").expect("sent");
        let mut answer = [0; 16];
        let count = client.recv(&mut answer).expect("an answer");
        assert_eq!(answer[..count], *b"yreuq");
        let text = guest.run(move || {
            let mut stream = std::net::TcpStream::connect(to).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(b"over tcp").expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("an end");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            text
        });
        assert_eq!(text, "pct revo");
    }
    guest.end();
}
