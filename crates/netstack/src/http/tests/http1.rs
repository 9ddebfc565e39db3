//! Plain HTTP/1.

use std::sync::atomic::Ordering;

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::*;
use super::world::{NAME, Setup, World, code, inject, named, talk};

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nX-Two: 1\r\nx-two: 2\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn what_is_injected_arrives_and_never_comes_back() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    let answer = talk(&mut guest, &get("/redirect?secret=1"), "/redirect").await;
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert!(answer.contains("location: /next") && answer.contains("b=2"), "{answer}");
    assert!(answer.contains("a=1"), "duplicates are kept: {answer}");
    assert!(!answer.contains("injected") && !answer.contains("alt-svc"), "{answer}");
    assert_eq!(world.header_seen(0, "authorization").unwrap(), "Bearer injected-value");
    assert_eq!(world.seen.requests.lock().unwrap()[0].headers.get_all("x-two").iter().count(), 2);
    drop(guest);
    let record = world
        .event(|event| match event {
            Event::Request(record) => Some(record.clone()),
            _ => None,
        })
        .await;
    assert_eq!(
        (record.status, record.path.as_str(), record.host.as_str()),
        (302, "/redirect", NAME)
    );
    assert_eq!(record.received, "you asked for /redirect".len() as u64);
    assert!(!format!("{record:?}").contains("secret"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    let requests: Vec<u8> = (0..20).flat_map(|number| get(&format!("/{number}"))).collect();
    let answer = talk(&mut guest, &requests, "for /19").await;
    let places: Vec<_> =
        (0..20).map(|number| answer.find(&format!("for /{number}")).unwrap()).collect();
    assert!(places.is_sorted(), "{answer}");
    assert_eq!(world.seen.requests.lock().unwrap().len(), 20);
}

#[tokio::test]
async fn chunks_and_trailers_go_both_ways() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: {NAME}\r\nTE: trailers\r\nTrailer: x-sum\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let body = "3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 42\r\n\r\n";
    let answer = talk(&mut guest, format!("{head}{body}").as_bytes(), "42\r\n\r\n").await;
    assert!(answer.contains("abc") && answer.contains("de"), "{answer}");
    assert!(answer.to_lowercase().contains("x-sum: 42"), "{answer}");
}

#[tokio::test]
async fn a_body_waits_for_the_upstreams_word() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: {NAME}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    );
    let answer = talk(&mut guest, head.as_bytes(), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 100"), "{answer}");
    let more = talk(&mut guest, b"12345", "12345").await;
    assert!(format!("{answer}{more}").contains("200 OK"), "{answer}{more}");
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_after_the_request_was_checked() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let answer = talk(&mut guest, head.as_bytes(), "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("websocket"), "{answer}");
    assert_eq!(world.header_seen(0, "authorization").unwrap(), "Bearer injected-value");
    let answer = talk(&mut guest, b"\0no HTTP\n\n", "\n\n").await;
    assert_eq!(answer, "\0no HTTP\n\n");
    guest.shutdown().await.unwrap();
    let mut rest = Vec::new();
    guest.read_to_end(&mut rest).await.unwrap();
    let sent = world
        .event(|event| match event {
            Event::Request(record) => Some((record.status, record.sent, record.received)),
            _ => None,
        })
        .await;
    assert_eq!(sent, (101, 10, 10));
}

#[tokio::test]
async fn the_middleware_may_answer_or_refuse() {
    let world = World::new(Setup::default()).await;
    let run = code(|request| match request.url.path() {
        "/mine" => Verdict::Respond(http::Response::new(full("from the middleware"))),
        "/panic" => panic!("expected by the test"),
        _ => Verdict::Deny { reason: "not today".into() },
    });
    let mut guest = world.connect(named(), run).await;
    let answer = talk(&mut guest, &get("/mine"), "middleware").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = talk(&mut guest, &get("/no"), "not today").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = talk(&mut guest, &get("/panic"), "failed").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

struct Hangs;

#[async_trait::async_trait]
impl Middleware for Hangs {
    async fn handle(&self, _request: &mut Request) -> Verdict {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_middleware_that_hangs_refuses() {
    let limits =
        Limits { middleware_deadline: std::time::Duration::from_millis(20), ..Limits::default() };
    let world = World::new(Setup { limits, ..Setup::default() }).await;
    let mut guest = world.connect(named(), Some(std::sync::Arc::new(Hangs))).await;
    let answer = talk(&mut guest, &get("/"), "in time").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_to_the_upstream_serves_the_next_guest_too() {
    let world = World::new(Setup::default()).await;
    for _ in 0..3 {
        let mut guest = world.connect(named(), inject()).await;
        talk(&mut guest, &get("/"), "asked for /").await;
        guest.shutdown().await.unwrap();
        let mut rest = Vec::new();
        guest.read_to_end(&mut rest).await.unwrap();
        drop(guest);
        // It is given back once the guest's connection has ended.
        tokio::time::timeout(std::time::Duration::from_secs(60), async {
            while world.http.pool.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await
        .unwrap();
    }
    assert_eq!(world.seen.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_ends_between_two_requests_costs_none_that_may_be_sent_again() {
    let world = World::new(Setup::default()).await;
    let mut guest = world.connect(named(), inject()).await;
    for (method, path, answered) in [
        // What a new connection ends with is the answer.
        ("GET", "/reluctant", false),
        ("GET", "/", true),
        ("GET", "/reluctant", true),
        ("POST", "/reluctant", false),
    ] {
        world.seen.reluctance.store(1, Ordering::SeqCst);
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
        let (status, end) = match answered {
            true => ("HTTP/1.1 200", "you asked for"),
            false => ("HTTP/1.1 502", "the upstream failed"),
        };
        let answer = talk(&mut guest, request.as_bytes(), end).await;
        assert!(answer.contains(status), "{method} {path}: {answer}");
    }
    assert_eq!(world.seen.requests.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_secret_takes_its_placeholders_place_for_its_host_only() {
    let hosts = vec![NAME.parse().unwrap()];
    let value = SecretValue::new("the-real-value".into());
    let secret = Secret::new("TOKEN", value, hosts, false).unwrap();
    let placeholder = secret.placeholder().to_owned();
    let secrets = Secrets::new(vec![secret]);
    let world = World::new(Setup { secrets, ..Setup::default() }).await;
    let request = |host: &str| {
        format!("GET /redirect HTTP/1.1\r\nHost: {host}\r\nAuthorization: {placeholder}\r\n\r\n")
    };
    let target = Target::Named { host: "*.example.com".parse().unwrap(), allow_private: true };
    let mut guest = world.connect(target, None).await;
    let answer = talk(&mut guest, request(NAME).as_bytes(), "/redirect").await;
    assert!(answer.starts_with("HTTP/1.1 302") && !answer.contains("real"), "{answer}");
    assert_eq!(world.header_seen(0, "authorization").unwrap(), "the-real-value");
    let answer = talk(&mut guest, request("other.example.com").as_bytes(), "TOKEN").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(world.refusal().await, Refusal::Secret);
    assert_eq!(world.seen.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn megabytes_stream_through() {
    let world = World::new(Setup::default()).await;
    let guest = world.connect(named(), inject()).await;
    let (mut reader, mut writer) = tokio::io::split(guest);
    let total = 24usize << 20;
    let head = format!("POST /echo HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {total}\r\n\r\n");
    let writing = tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        let block: Vec<u8> = (b'a'..=b'z').cycle().take(1 << 16).collect();
        for _ in 0..total / block.len() {
            writer.write_all(&block).await.unwrap();
        }
        writer
    });
    let (mut buffer, mut read, mut letters) = (vec![0; 1 << 16], 0, 0usize);
    while letters < total {
        let length = reader.read(&mut buffer).await.unwrap();
        assert!(length > 0, "ended after {read}");
        let body = if read == 0 {
            buffer[..length]
                .windows(4)
                .position(|part| part == b"\r\n\r\n")
                .map_or(length, |at| at + 4)
        } else {
            0
        };
        read += length;
        letters += length - body;
    }
    assert_eq!(letters, total);
    drop(writing.await.unwrap());
}

#[tokio::test]
async fn a_header_that_frames_the_message_stays_what_it_was() {
    let world = World::new(Setup::default()).await;
    let run = code(|request| {
        request.headers.insert("host", HeaderValue::from_static("evil.example"));
        request.headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
        request.headers.insert("content-length", HeaderValue::from_static("99"));
        Verdict::Forward
    });
    let mut guest = world.connect(named(), run).await;
    let send = format!(
        "POST /echo HTTP/1.1\r\nHost: {}.\r\nContent-Length: 3\r\n\r\nabc",
        NAME.to_uppercase()
    );
    talk(&mut guest, send.as_bytes(), "abc").await;
    assert_eq!(world.header_seen(0, "host").unwrap(), NAME);
    assert_eq!(world.header_seen(0, "content-length").unwrap(), "3");
    assert_eq!(world.header_seen(0, "transfer-encoding"), None);
}
