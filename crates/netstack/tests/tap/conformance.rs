//! What TCP promises, between two Linux sockets with the stack in between.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use netstack::{Config, Event, FlowEnd};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};

use crate::guest::{AcceptAll, Digest, Guest, noise, until};
use crate::tcp::{accept, connect, digest_to_end, end_of, exchange, listen, pair};
use crate::weather::Weather;

fn in_weather(test: &str, weather: Weather) -> Option<Guest> {
    let config = Config { mtu: 1500, ..Config::default() };
    Guest::in_weather(test, config, Arc::new(AcceptAll::default()), weather)
}

fn ends(guest: &Guest) -> Vec<FlowEnd> {
    until("all flows to end", || guest.stack.stats().tcp == 0);
    guest.events.all().into_iter().filter_map(end_of).collect()
}

#[test]
fn bytes_arrive_whole_through_loss_reordering_and_doubling() {
    let test = "bytes_arrive_whole_through_loss_reordering_and_doubling";
    for seed in 1..4 {
        let jitter = Duration::from_millis(seed);
        let weather = Weather { seed, lost: 10, doubled: 20, jitter, ..Weather::default() };
        let Some(guest) = in_weather(test, weather) else { return };
        exchange(&guest, seed == 2, 400_000);
        assert_eq!(ends(&guest), [FlowEnd::Finished]);
        guest.end();
    }
}

#[test]
fn ends_arrive_through_loss_reordering_and_doubling() {
    let test = "ends_arrive_through_loss_reordering_and_doubling";
    let jitter = Duration::from_millis(2);
    let weather = Weather { seed: 9, lost: 50, doubled: 50, jitter, ..Weather::default() };
    let Some(guest) = in_weather(test, weather) else { return };
    const COUNT: usize = 16;
    let threads: Vec<_> = (0..COUNT)
        .map(|number| {
            let (mut client, mut server) = pair(&guest, number % 2 == 1);
            thread::spawn(move || {
                client.write_all(b"question").expect("sent");
                client.shutdown(Shutdown::Write).expect("an end");
                let mut text = String::new();
                server.read_to_string(&mut text).expect("up to the end");
                assert_eq!(text, "question");
                server.write_all(b"answer").expect("sent");
                drop(server);
                text.clear();
                client.read_to_string(&mut text).expect("up to the end");
                assert_eq!(text, "answer");
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("both ends"));
    assert_eq!(ends(&guest), [FlowEnd::Finished; COUNT]);
    guest.end();
}

#[test]
fn ends_that_cross_on_the_way_are_both_heard() {
    let test = "ends_that_cross_on_the_way_are_both_heard";
    // Long enough that neither side has heard of the other's end when it ends.
    let weather = Weather { delay: Duration::from_millis(20), ..Weather::default() };
    let Some(guest) = in_weather(test, weather) else { return };
    const COUNT: usize = 10;
    for _ in 0..COUNT {
        let (client, server) = pair(&guest, false);
        let start = Arc::new(Barrier::new(2));
        let sides = [client, server].map(|mut stream| {
            let start = start.clone();
            thread::spawn(move || {
                start.wait();
                stream.write_all(b"goodbye").expect("sent");
                stream.shutdown(Shutdown::Write).expect("an end");
                let mut text = String::new();
                stream.read_to_string(&mut text).expect("up to the end");
                assert_eq!(text, "goodbye");
            })
        });
        sides.into_iter().for_each(|side| side.join().expect("an end"));
    }
    assert_eq!(ends(&guest), [FlowEnd::Finished; COUNT]);
    guest.end();
}

#[test]
fn a_window_that_was_closed_for_long_opens_again() {
    let Some(guest) = Guest::new("a_window_that_was_closed_for_long_opens_again") else { return };
    let stalls: Vec<_> = [true, false]
        .map(|guest_reads| {
            let (client, server) = pair(&guest, guest_reads);
            let (reader, writer) = if guest_reads { (client, server) } else { (server, client) };
            // Little room, so that it is the window that holds the writer up.
            SockRef::from(&reader).set_recv_buffer_size(64 << 10).expect("a small buffer");
            const LENGTH: usize = 12 << 20;
            let written = thread::spawn(move || {
                let bytes = noise(11, LENGTH);
                (&writer).write_all(&bytes).expect("taken in the end");
                Digest::of(&bytes)
            });
            thread::spawn(move || {
                // Probes of the closed window go on meanwhile: the first comes after 200 ms, and
                // each takes twice as long as the one before.
                thread::sleep(Duration::from_millis(1500));
                assert!(!written.is_finished(), "the window was never closed");
                assert_eq!(digest_to_end(&reader), written.join().expect("written"));
            })
        })
        .into();
    stalls.into_iter().for_each(|stall| stall.join().expect("whole"));
    assert_eq!(ends(&guest), [FlowEnd::Finished; 2]);
    guest.end();
}

#[test]
fn a_guest_that_asks_whether_the_peer_lives_is_answered() {
    let test = "a_guest_that_asks_whether_the_peer_lives_is_answered";
    let Some(guest) = Guest::new(test) else { return };
    let (client, mut server) = pair(&guest, false);
    let second = Duration::from_secs(1);
    let keep_alive = TcpKeepalive::new().with_time(second).with_interval(second).with_retries(1);
    SockRef::from(&client).set_tcp_keepalive(&keep_alive).expect("a keep-alive");
    // Unanswered, the connection would be gone after two.
    thread::sleep(4 * second);
    server.write_all(b"here").expect("sent");
    let mut bytes = [0; 4];
    (&client).read_exact(&mut bytes).expect("it lives");
    assert_eq!(&bytes, b"here");
    guest.end();
}

#[test]
fn ten_thousand_short_connections_leave_nothing_behind() {
    let test = "ten_thousand_short_connections_leave_nothing_behind";
    let Some(guest) = Guest::at_once(test) else { return };
    const COUNT: usize = 10_000;
    const CLIENTS: usize = 4;
    let (listener, address) = listen(false);
    let server = thread::spawn(move || {
        for _ in 0..COUNT {
            let mut stream = accept(&listener);
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).expect("a question");
            stream.write_all(&bytes).expect("an answer");
        }
    });
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("a list").count();
    let before = descriptors();
    guest.run(move || {
        let ask = move |client: usize| {
            for number in 0..COUNT / CLIENTS {
                let mut stream = connect(address);
                let question = format!("{:05}", client * COUNT / CLIENTS + number);
                stream.write_all(question.as_bytes()).expect("asked");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("answered");
                assert_eq!(answer, question);
            }
        };
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| thread::spawn(move || ask(client))).collect();
        clients.into_iter().for_each(|client| client.join().expect("all answered"));
    });
    server.join().expect("served");
    assert_eq!(ends(&guest), vec![FlowEnd::Finished; COUNT]);
    until("all descriptors to be closed", || descriptors() <= before);
    guest.end();
}

#[test]
fn five_hundred_connections_live_side_by_side() {
    let Some(guest) = Guest::at_once("five_hundred_connections_live_side_by_side") else { return };
    const COUNT: usize = 500;
    // Three descriptors each.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a higher limit");
    let (listener, address) = listen(false);
    let server = thread::spawn(move || (0..COUNT).map(|_| accept(&listener)).collect::<Vec<_>>());
    let clients = guest.run(move || (0..COUNT).map(|_| connect(address)).collect::<Vec<_>>());
    let servers = server.join().expect("all of them");
    assert_eq!(guest.stack.stats().tcp, COUNT as u64);
    // All talk before any is answered.
    for (number, mut client) in clients.iter().enumerate() {
        client.write_all(&noise(number as u64, 10_000)).expect("sent");
        client.shutdown(Shutdown::Write).expect("an end");
    }
    for mut server in servers {
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).expect("a question");
        server.write_all(&bytes).expect("an echo");
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(digest_to_end(client), Digest::of(&noise(number as u64, 10_000)));
    }
    drop(clients);
    assert_eq!(ends(&guest), [FlowEnd::Finished; COUNT]);
    guest.end();
}

/// What is moved each way; `NETSTACK_TRANSFER_MIB` says otherwise.
const TRANSFER_MIB: usize = 16;

#[test]
fn a_long_transfer_arrives_whole_in_both_directions_at_once() {
    let test = "a_long_transfer_arrives_whole_in_both_directions_at_once";
    let Some(guest) = Guest::new(test) else { return };
    let wanted = std::env::var("NETSTACK_TRANSFER_MIB").ok();
    let mib = wanted.map_or(TRANSFER_MIB, |text| text.parse().expect("a number of MiB"));
    for v6 in [false, true] {
        exchange(&guest, v6, mib << 20);
    }
    let bytes = |event| match event {
        Event::Closed { sent, received, .. } => Some((sent, received)),
        _ => None,
    };
    assert_eq!(ends(&guest), [FlowEnd::Finished; 2]);
    let counted: Vec<_> = guest.events.all().into_iter().filter_map(bytes).collect();
    assert_eq!(counted, [((mib << 20) as u64, (mib << 20) as u64); 2]);
    guest.end();
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let Some(guest) = Guest::new("a_server_that_speaks_first_is_heard") else { return };
    let (listener, address) = listen(true);
    let server = thread::spawn(move || {
        let mut stream = accept(&listener);
        stream.write_all(b"SSH-2.0-banner\r\n").expect("sent");
        stream
    });
    let mut client = guest.run(move || connect(address));
    let mut banner = [0; 16];
    client.read_exact(&mut banner).expect("a banner");
    assert_eq!(&banner, b"SSH-2.0-banner\r\n");
    drop(server.join().expect("a server"));
    guest.end();
}

#[test]
fn what_is_urgent_is_not_lost() {
    let Some(guest) = Guest::new("what_is_urgent_is_not_lost") else { return };
    let (client, server) = pair(&guest, false);
    let mut inline: TcpStream = server;
    SockRef::from(&client).send_out_of_band(b"!").expect("sent");
    (&client).write_all(b"?").expect("sent");
    let mut bytes = [0; 2];
    inline.read_exact(&mut bytes).expect("both");
    assert_eq!(&bytes, b"!?");
    inline.set_nonblocking(true).expect("a mode");
    assert_eq!(inline.read(&mut bytes).expect_err("no more").kind(), ErrorKind::WouldBlock);
    guest.end();
}
