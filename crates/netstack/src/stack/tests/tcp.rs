use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::world::{World, noise};
use crate::event::{DenyReason, FlowEnd};
use crate::policy::{Answer, Opened, Question};

/// Bytes each way.
const LENGTH: usize = 150_000;

/// What the upstream has written and read.
struct Upstream {
    stream: UnixStream,
    to_send: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
    done: bool,
}

impl Upstream {
    fn turn(&mut self) {
        while self.sent < self.to_send.len() {
            match self.stream.write(&self.to_send[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            if self.sent == self.to_send.len() {
                self.stream.shutdown(Shutdown::Write).expect("an end");
            }
        }
        let mut buffer = [0; 65_536];
        while !self.done {
            match self.stream.read(&mut buffer) {
                Ok(count) => {
                    self.got.extend_from_slice(&buffer[..count]);
                    self.done = count == 0;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Moves noise both ways at once, through the given weather, to both ends.
fn transfer(seed: u64, weather: [u64; 3]) {
    let mut world = World::new(seed, weather);
    let handle = world.connect(40_000);
    let (upward, downward) = (noise(seed + 1, LENGTH), noise(seed + 2, LENGTH));
    let stream = world.accept();
    let to_send = downward.clone();
    let mut upstream = Upstream { stream, to_send, sent: 0, got: Vec::new(), done: false };
    let (mut sent, mut got) = (0, Vec::new());
    world.until("both ends", |world| {
        let socket = world.socket(handle);
        if socket.may_send() && sent < LENGTH {
            sent += socket.send_slice(&upward[sent..]).expect("it may");
            if sent == LENGTH {
                socket.close();
            }
        }
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).expect("it can");
        }
        upstream.turn();
        upstream.done && got.len() >= LENGTH
    });
    assert!(upstream.got == upward, "what went up has changed");
    assert!(got == downward, "what came down has changed");
    world.until("the flow to end", |world| world.ends() == [FlowEnd::Finished]);
    assert!(world.core.table.ids().is_empty());
    assert_eq!(world.core.next_deadline(), None, "nothing is left to do");
}

#[test]
fn a_perfect_link_carries_everything() {
    transfer(1, [0, 0, 0]);
}

#[test]
fn reordering_and_doubling_change_nothing() {
    for seed in 1..4 {
        transfer(seed, [0, 10, 3000]);
    }
}

#[test]
fn loss_changes_nothing() {
    for seed in 1..6 {
        transfer(seed, [3, 2, 1500]);
    }
}

#[test]
fn a_syn_that_comes_again_is_one_flow_and_one_question() {
    let mut world = World::new(7, [0, 100, 0]);
    world.connect(40_000);
    let id = world.question();
    let start = world.now;
    // The client repeats its SYN after a second, and again.
    world.until("five seconds", |world| world.now > start + Duration::from_secs(5));
    assert!(world.questions.try_recv().is_err());
    assert_eq!(world.core.table.ids(), [id]);
}

#[test]
fn a_guest_that_gives_up_takes_its_question_back() {
    let mut world = World::new(8, [0, 0, 0]);
    let handle = world.connect(40_000);
    let id = world.question();
    // smoltcp resets it, although it has not been made; Linux would stay silent.
    world.socket(handle).abort();
    world.until(
        "the question back",
        |world| matches!(world.questions.try_recv(), Ok(Question::GivenUp(given)) if given == id),
    );
    assert_eq!(world.core.undecided, 0);
    let (_, theirs) = UnixStream::pair().expect("two sockets");
    world.core.answer(Answer::Opened(id, Opened::Socket(theirs.into())), world.now);
    assert!(world.core.table.ids().is_empty());
}

#[test]
fn a_denied_connection_is_reset() {
    let mut world = World::new(9, [0, 0, 0]);
    let handle = world.connect(40_000);
    let id = world.question();
    world.core.answer(Answer::Denied(id, DenyReason::Policy, "no".to_owned()), world.now);
    world.until("a reset", |world| world.socket(handle).state() == tcp::State::Closed);
    assert!(world.core.table.ids().is_empty());
}

#[test]
fn a_guest_that_falls_silent_is_given_up() {
    let mut world = World::new(10, [0, 0, 0]);
    let handle = world.connect(40_000);
    let mut stream = world.accept();
    world.until("a connection", |world| world.socket(handle).may_send());
    stream.write_all(&[0; 1000]).expect("room");
    // From here on nothing arrives.
    world.up.lost = 100;
    for _ in 0..3 {
        let start = world.now;
        world.until("five minutes", |world| world.now > start + Duration::from_secs(300));
    }
    world.until("the end", |world| world.ends() == [FlowEnd::Expired]);
}

#[test]
fn a_long_silence_without_anything_owed_is_no_end() {
    let mut world = World::new(11, [0, 0, 0]);
    let handle = world.connect(40_000);
    let mut stream = world.accept();
    world.until("a connection", |world| world.socket(handle).may_send());
    world.until("quiet", |world| world.core.next_deadline().is_none());
    world.now += Duration::from_secs(7 * 86_400);
    stream.write_all(b"still there?").expect("room");
    world.until("bytes", |world| world.socket(handle).recv_queue() == 12);
    assert_eq!(world.ends(), []);
}
