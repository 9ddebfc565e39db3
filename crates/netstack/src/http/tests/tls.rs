//! Through TLS, with HTTP/1.1 and HTTP/2.

use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Request as HttpRequest};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::super::upstream::open_tls;
use super::super::*;
use super::world::{NAME, Setup, World, inject, named, talk};
use crate::tls::{Alpn, Trust};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\n\r\n")
}

#[tokio::test]
async fn the_guest_speaks_what_the_upstream_chose() {
    let both = [Alpn::Http2, Alpn::Http1];
    for (origin, offers, chosen) in [
        (Alpn::Http1, &both[..], Alpn::Http1),
        (Alpn::Http2, &both[..], Alpn::Http2),
        (Alpn::None, &both[..], Alpn::Http1),
        (Alpn::Http1, &[][..], Alpn::None),
    ] {
        let world = World::new(Setup { origin: Some(origin), ..Setup::default() }).await;
        let (mut guest, alpn) = world.connect_tls(offers, inject()).await;
        assert_eq!(alpn, chosen);
        if alpn != Alpn::Http2 {
            let answer = talk(&mut guest, get("/x").as_bytes(), "for /x").await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_eq!(world.header_seen(0, "authorization").unwrap(), "Bearer injected-value");
        }
    }
}

#[tokio::test]
async fn many_http2_streams_carry_bodies_and_trailers() {
    let world = World::new(Setup { origin: Some(Alpn::Http2), ..Setup::default() }).await;
    let (guest, _) = world.connect_tls(&[Alpn::Http2], inject()).await;
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(guest)).await.unwrap();
    let driver = tokio::spawn(connection);
    let calls = (0..40).map(|number| {
        let mut sender = sender.clone();
        async move {
            let text = format!("message {number}");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames: Vec<Result<_, BodyError>> =
                vec![Ok(Frame::data(Bytes::from(text.clone()))), Ok(Frame::trailers(trailers))];
            let body = BodyExt::boxed_unsync(StreamBody::new(futures::stream::iter(frames)));
            let request = HttpRequest::post(format!("https://{NAME}/echo"))
                .header("te", "trailers")
                .header("cookie", "a=1")
                .header("cookie", "b=2");
            let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(body.to_bytes(), text);
        }
    });
    join_all(calls).await;
    {
        let requests = world.seen.requests.lock().unwrap();
        assert_eq!(requests.len(), 40);
        for request in requests.iter() {
            assert_eq!(request.headers["authorization"], "Bearer injected-value");
            assert_eq!(request.headers["te"], "trailers");
            assert_eq!(request.headers.get_all("cookie").iter().count(), 2);
            assert_eq!(request.uri.authority().unwrap(), NAME);
        }
    }
    let mut sender = sender;
    let request = HttpRequest::get("https://other.example.com/").body(full("")).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 403);
    drop(sender);
    let _ = driver.await;
}

/// A connection of the guest that speaks HTTP/2.
async fn connect_http2(world: &World) -> http2::SendRequest<Body> {
    let (guest, _) = world.connect_tls(&[Alpn::Http2], inject()).await;
    let builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(guest)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn what_the_upstream_has_not_looked_at_is_sent_again() {
    let world = World::new(Setup { origin: Some(Alpn::Http2), ..Setup::default() }).await;
    world.seen.goodbyes.store(1, Ordering::SeqCst);
    world.seen.reluctance.store(2, Ordering::SeqCst);
    let mut sender = connect_http2(&world).await;
    for path in ["/", "/reluctant"] {
        let request = HttpRequest::get(format!("https://{NAME}{path}")).body(full("")).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    assert_eq!(world.seen.requests.lock().unwrap().len(), 4);
    assert_eq!(world.header_seen(3, "authorization").unwrap(), "Bearer injected-value");
    // Not for ever.
    world.seen.reluctance.store(100, Ordering::SeqCst);
    let request = HttpRequest::get(format!("https://{NAME}/reluctant")).body(full("")).unwrap();
    let error = sender.send_request(request).await.unwrap_err();
    assert_eq!(reason(&error), Some(h2::Reason::REFUSED_STREAM));
}

#[tokio::test]
async fn the_guest_is_told_that_nobody_has_looked_at_a_request_with_a_body() {
    let world = World::new(Setup { origin: Some(Alpn::Http2), ..Setup::default() }).await;
    world.seen.reluctance.store(1, Ordering::SeqCst);
    let mut sender = connect_http2(&world).await;
    let post =
        || HttpRequest::post(format!("https://{NAME}/reluctant")).body(full("body")).unwrap();
    let error = sender.send_request(post()).await.unwrap_err();
    assert_eq!(reason(&error), Some(h2::Reason::REFUSED_STREAM));
    assert_eq!(world.refusal().await, Refusal::Upstream);
    let response = sender.send_request(post()).await.unwrap();
    assert_eq!(response.status(), 200);
}

fn reason(error: &hyper::Error) -> Option<h2::Reason> {
    error.source()?.downcast_ref::<h2::Error>()?.reason()
}

#[tokio::test]
async fn an_upstream_that_cannot_be_verified_is_a_502_with_the_reason() {
    let setup = Setup { origin: Some(Alpn::Http1), trusted: false, ..Setup::default() };
    let world = World::new(setup).await;
    let (mut guest, _) = world.connect_tls(&[Alpn::Http1], inject()).await;
    let answer = talk(&mut guest, get("/").as_bytes(), "certificate").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(world.refusal().await, Refusal::UpstreamTls);
    assert!(world.seen.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_middleware_the_guest_sees_the_upstreams_own_certificate() {
    let world = World::new(Setup { origin: Some(Alpn::Http1), ..Setup::default() }).await;
    let client = world.connect(named(), None).await;
    let name = NAME.try_into().unwrap();
    let config = world.http.options.trust.client_config(&[Alpn::Http1]);
    let (mut guest, _) = open_tls(&name, &config, client, Duration::from_secs(60)).await.unwrap();
    let answer = talk(&mut guest, get("/raw").as_bytes(), "for /raw").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(guest);
    let (sent, received) = world
        .event(|event| match event {
            Event::Relayed { sent, received, .. } => Some((*sent, *received)),
            _ => None,
        })
        .await;
    assert!(sent > 200 && received > 200);
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let world = World::new(Setup { origin: Some(Alpn::Http1), ..Setup::default() }).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = world.authority.certificate_pem().as_bytes();
    let root = rustls::pki_types::pem::PemObject::from_pem_slice(pem).unwrap();
    roots.add(root).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let client = world.connect(named(), inject()).await;
        let name = NAME.try_into().unwrap();
        let opened = open_tls(&name, &config.into(), client, Duration::from_secs(60)).await;
        let answer = talk(&mut opened.unwrap().0, get("/v").as_bytes(), "for /v").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The host's own roots do not know the authority.
    let trust = Trust::only::<&str>(&[]).unwrap();
    let client = world.connect(named(), inject()).await;
    let name = NAME.try_into().unwrap();
    let config = trust.client_config(&[Alpn::Http1]);
    assert!(open_tls(&name, &config, client, Duration::from_secs(60)).await.is_err());
}
