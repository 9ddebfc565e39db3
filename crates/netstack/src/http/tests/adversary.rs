//! A guest that lies.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::*;
use super::world::{NAME, Setup, World, inject, named, talk};
use crate::tls::Alpn;

#[tokio::test]
async fn another_host_is_refused() {
    let world = World::new(Setup::default()).await;
    let port = world.port();
    for host in [
        "evil.example",
        "other.example.com",
        "10.0.2.2",
        "api.example.com:1",
        "x@api.example.com",
        "api.example.com.evil.example",
        "[::1]",
        "",
    ] {
        let mut guest = world.connect(named(), inject()).await;
        let send = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = talk(&mut guest, send.as_bytes(), "lanebox: ").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{host}: {answer}");
    }
    assert!(world.seen.requests.lock().unwrap().is_empty());
    let mut guest = world.connect(named(), inject()).await;
    let send = format!("GET http://evil.example/ HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let answer = talk(&mut guest, send.as_bytes(), "lanebox: ").await;
    assert!(answer.contains("403"), "{answer}");
    assert!(world.seen.requests.lock().unwrap().is_empty());
    let mut guest = world.connect(named(), inject()).await;
    let send =
        format!("GET http://{NAME}:{port}/x HTTP/1.1\r\nHost: API.example.com.:{port}\r\n\r\n");
    let answer = talk(&mut guest, send.as_bytes(), "lanebox: ").await;
    assert!(answer.contains("403"), "two spellings are not one: {answer}");
    assert_eq!(world.refusal().await, Refusal::Name);
}

#[tokio::test]
async fn smuggled_requests_reach_nobody() {
    for (wrong, fields) in [
        ("two lengths", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("lengths in a list", "Content-Length: 4, 4\r\n"),
        ("a bare LF", "X: y\nZ: w\r\n"),
        ("a fold", "X: y\r\n z\r\n"),
        ("a NUL", "X: y\0z\r\n"),
        ("two hosts", "Host: evil.example\r\n"),
        ("an odd coding", "Transfer-Encoding: xchunked\r\n"),
        ("a space before the colon", "Content-Length : 4\r\n"),
    ] {
        let world = World::new(Setup::default()).await;
        let mut guest = world.connect(named(), inject()).await;
        let smuggled = format!("GET /smuggled HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
        let send = format!("POST / HTTP/1.1\r\nHost: {NAME}\r\n{fields}\r\n0\r\n\r\n{smuggled}");
        let answer = talk(&mut guest, send.as_bytes(), "never").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{wrong}: {answer}");
        assert!(world.seen.requests.lock().unwrap().is_empty(), "{wrong}");
        assert_eq!(world.refusal().await, Refusal::Malformed, "{wrong}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    let long = "a".repeat(1 << 20);
    let send = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nX: {long}\r\n\r\n");
    talk(&mut guest, send.as_bytes(), "never").await;
    assert_eq!(world.refusal().await, Refusal::Malformed);
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_head_is_given_up() {
    let limits = Limits { head_deadline: Duration::from_millis(100), ..Limits::default() };
    let world = World::new(Setup { limits, ..Setup::default() }).await;
    for start in ["", "GET / HTTP/1.1\r\nHost: api.exam", "\x16\x03\x01"] {
        let mut guest = world.connect(named(), inject()).await;
        talk(&mut guest, start.as_bytes(), "never").await;
    }
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_head_that_comes_drop_by_drop_is_given_up_while_others_are_served() {
    let limits = Limits { head_deadline: Duration::from_millis(500), ..Limits::default() };
    let world = World::new(Setup { limits, ..Setup::default() }).await;
    let mut slow = world.connect(named(), inject()).await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n").await.unwrap();
    let mut served = 0;
    let drip = async {
        // Every drop comes in time; the head never ends.
        while slow.write_all(b"X: y\r\n").await.is_ok() {
            let mut guest = world.connect(named(), inject()).await;
            let send = format!("GET /quick HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
            let answer = talk(&mut guest, send.as_bytes(), "for /quick").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            served += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), drip).await.expect("it is given up");
    assert!(served > 0);
    assert!(world.seen.requests.lock().unwrap().iter().all(|parts| parts.uri.path() == "/quick"));
}

#[tokio::test]
async fn a_quiet_connection_is_ended() {
    let limits = Limits { idle: Duration::from_millis(500), ..Limits::default() };
    let world = World::new(Setup { limits, ..Setup::default() }).await;
    let mut guest = world.connect(named(), inject()).await;
    let send = format!("GET /last HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let answer = talk(&mut guest, send.as_bytes(), "never").await;
    assert!(answer.contains("for /last"), "{answer}");
}

#[tokio::test]
async fn connect_and_trace_are_refused() {
    let world = World::new(Setup::default()).await;
    for start in [format!("CONNECT {NAME}:443"), "TRACE /".to_owned()] {
        let mut guest = world.connect(named(), inject()).await;
        let send = format!("{start} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
        let answer = talk(&mut guest, send.as_bytes(), "let through").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert_eq!(world.refusal().await, Refusal::Method);
    }
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_http_is_closed_without_a_byte() {
    for (opening, with_code) in
        [("SSH-2.0-x\r\n", true), ("SSH-2.0-x\r\n", false), ("\0\0\0", true)]
    {
        let world = World::new(Setup::default()).await;
        let middleware = with_code.then(inject).flatten();
        let mut guest = world.connect(named(), middleware).await;
        let answer = talk(&mut guest, opening.as_bytes(), "never").await;
        assert_eq!(answer, "");
        assert_eq!(world.refusal().await, Refusal::NotHttp);
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused() {
    let world = World::new(Setup::default()).await;
    let target = Target::Named { host: NAME.parse().unwrap(), allow_private: false };
    let mut guest = world.connect(target, None).await;
    let send = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let answer = talk(&mut guest, send.as_bytes(), "not public").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(world.refusal().await, Refusal::Private);
}

#[tokio::test]
async fn without_middleware_every_request_of_a_connection_is_checked() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), None).await;
    let send = format!("GET /good HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    let answer = talk(&mut guest, send.as_bytes(), "for /good").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let send = "GET /fronted HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let answer = talk(&mut guest, send.as_bytes(), "lanebox").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(world.seen.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn connections_above_the_limit_are_refused_and_told() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let world = World::new(Setup { limits, ..Setup::default() }).await;
    let mut first = world.connect(named(), inject()).await;
    let send = format!("GET /1 HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    talk(&mut first, send.as_bytes(), "for /1").await;
    let mut second = world.connect(named(), inject()).await;
    assert_eq!(talk(&mut second, b"", "never").await, "");
    assert_eq!(world.refusal().await, Refusal::Limit);
}

#[tokio::test]
async fn another_sni_is_refused_before_anything_is_answered() {
    for name in ["evil.example", "other.example.com"] {
        for middleware in [None, inject()] {
            let world = World::new(Setup { origin: Some(Alpn::Http1), ..Setup::default() }).await;
            let client = world.connect(named(), middleware).await;
            let trust = crate::tls::Trust::only(&[world.authority.certificate_pem()]).unwrap();
            let config = trust.client_config(&[Alpn::Http1]);
            let server = name.try_into().unwrap();
            let opened =
                super::super::upstream::open_tls(&server, &config, client, Duration::from_secs(60));
            assert!(opened.await.is_err(), "{name}");
            assert_eq!(world.refusal().await, Refusal::Name);
        }
    }
}

#[tokio::test]
async fn a_host_that_is_not_the_sni_is_refused() {
    let world = World::new(Setup { origin: Some(Alpn::Http1), ..Setup::default() }).await;
    let target = Target::Named { host: "*.example.com".parse().unwrap(), allow_private: true };
    let client = world.connect(target, inject()).await;
    let trust = crate::tls::Trust::only(&[world.authority.certificate_pem()]).unwrap();
    let config = trust.client_config(&[Alpn::Http1]);
    let server = NAME.try_into().unwrap();
    let opened =
        super::super::upstream::open_tls(&server, &config, client, Duration::from_secs(60));
    let (mut guest, _) = opened.await.unwrap();
    let send = "GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n";
    let answer = talk(&mut guest, send.as_bytes(), "SNI").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bytes_after_a_refused_head_go_nowhere() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    guest.write_all(b"GET / HTTP/1.1\nHost: x\n\n").await.unwrap();
    let mut read = Vec::new();
    let _ = guest.read_to_end(&mut read).await;
    assert!(read.starts_with(b"HTTP/1.1 400"));
}
