//! Connections that end in this process.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use netstack::{Config, Decision, Flow, Grants, Intercepted, Interceptor, Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::guest::{Guest, PATIENCE, until};

/// Makes everything upper case on its way to the upstream. A `!` makes it reset the guest, a `?`
/// leave without a word, a `@` panic.
struct Shout;

#[async_trait]
impl Interceptor for Shout {
    async fn serve(&self, call: Intercepted) {
        let Intercepted { mut guest, mut upstream, .. } = call;
        let mut buffer = [0; 1024];
        loop {
            match guest.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => {
                    let bytes = buffer[..count].to_ascii_uppercase();
                    assert!(!bytes.contains(&b'@'), "as it was told");
                    if bytes.contains(&b'!') {
                        return guest.reset();
                    }
                    if bytes.contains(&b'?') {
                        return;
                    }
                    upstream.write_all(&bytes).await.expect("taken");
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    upstream.write_all(b"reset").await.expect("taken");
                    return;
                }
            }
        }
        upstream.shutdown().await.expect("an end");
        tokio::io::copy(&mut upstream, &mut guest).await.expect("an answer");
    }
}

struct InterceptAll;

#[async_trait]
impl Policy for InterceptAll {
    async fn decide(&self, _flow: &Flow) -> Decision {
        Decision::Intercept(Arc::new(Shout), Grants::default())
    }
}

fn pair(guest: &Guest) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let server = thread::spawn(move || listener.accept().expect("a connection").0);
    let client = guest
        .run(move || TcpStream::connect(SocketAddr::from(([10, 0, 2, 2], port))))
        .expect("a connection");
    let server = server.join().expect("a server");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    (client, server)
}

#[test]
fn an_interceptor_sits_between_guest_and_upstream() {
    let test = "an_interceptor_sits_between_guest_and_upstream";
    let Some(guest) = Guest::with(test, Config::default(), Arc::new(InterceptAll)) else { return };
    let (mut client, mut server) = pair(&guest);
    client.write_all(b"quiet").expect("sent");
    client.shutdown(Shutdown::Write).expect("an end");
    let mut text = String::new();
    server.read_to_string(&mut text).expect("up to the end");
    assert_eq!(text, "QUIET");
    server.write_all(b"answer").expect("sent");
    drop(server);
    text.clear();
    client.read_to_string(&mut text).expect("up to the end");
    assert_eq!(text, "answer");
    drop(client);
    until("the flow to end", || guest.stack.stats().tcp == 0);
    guest.end();
}

#[test]
fn an_interceptor_that_resets_leaves_or_panics_ends_one_connection() {
    let test = "an_interceptor_that_resets_leaves_or_panics_ends_one_connection";
    let Some(guest) = Guest::with(test, Config::default(), Arc::new(InterceptAll)) else { return };
    for (text, reset) in [("!", true), ("?", false), ("@", false)] {
        let (mut client, mut server) = pair(&guest);
        client.write_all(text.as_bytes()).expect("sent");
        let result = client.read(&mut [0; 8]);
        if reset {
            assert_eq!(result.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        } else {
            assert_eq!(result.expect("an end"), 0);
        }
        // The upstream is let go as well.
        assert_eq!(server.read(&mut [0; 8]).unwrap_or(0), 0);
    }
    until("the flows to end", || guest.stack.stats().tcp == 0);
    guest.end();
}

#[test]
fn an_interceptor_is_told_of_the_guests_reset() {
    let test = "an_interceptor_is_told_of_the_guests_reset";
    let Some(guest) = Guest::with(test, Config::default(), Arc::new(InterceptAll)) else { return };
    let (client, mut server) = pair(&guest);
    let linger = socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO));
    linger.expect("a linger of 0");
    drop(client);
    let mut text = String::new();
    server.read_to_string(&mut text).expect("up to the end");
    assert_eq!(text, "reset");
    guest.end();
}
