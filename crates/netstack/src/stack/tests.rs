//! The core under a virtual clock: a smoltcp client as guest behind a link that loses, doubles and
//! reorders frames, and a socket pair as upstream. The same seed gives the same run.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use smoltcp::iface::{Config as ClientConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::core::{Core, Parts};
use super::counters::Counters;
use super::*;
use crate::event::{DenyReason, Event, FlowEnd};
use crate::flow::FlowId;
use crate::link::{GATEWAY_V4, GUEST_V4};
use crate::policy::{Answer, Opened, Question};
use crate::wire::Sums;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const MTU: u16 = 1500;
/// Bytes each way.
const LENGTH: usize = 150_000;

/// Frames of the guest's card.
#[derive(Default)]
struct Card {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Rx(frame), Tx(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(MTU) + 14;
        capabilities
    }
}

/// A link in one direction. Percentages of frames that are lost and doubled; each is late by up to
/// `late` microseconds.
struct Wire {
    random: u64,
    lost: u64,
    doubled: u64,
    late: u64,
    on_the_way: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
}

impl Wire {
    fn new(seed: u64, [lost, doubled, late]: [u64; 3]) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { random, lost, doubled, late, on_the_way: BTreeMap::new(), count: 0 }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    fn put(&mut self, frame: &[u8], now: Instant) {
        let copies = match self.roll(100) {
            roll if roll < self.lost => 0,
            roll if roll < self.lost + self.doubled => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let late = Duration::from_micros(self.roll(self.late + 1));
            self.count += 1;
            self.on_the_way.insert((now + late, self.count), frame.to_vec());
        }
    }

    fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let entry = self.on_the_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

struct World {
    core: Core,
    questions: UnboundedReceiver<Question>,
    events: Arc<Mutex<Vec<Event>>>,
    card: Card,
    iface: Interface,
    sockets: SocketSet<'static>,
    up: Wire,
    down: Wire,
    now: Instant,
}

impl World {
    fn new(seed: u64, weather: [u64; 3]) -> Self {
        let (sender, questions) = unbounded_channel();
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let log = events.clone();
        let core = Core::new(Parts {
            config: Config { guest_mac: Some(MAC), mtu: MTU, ..Config::default() },
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an event queue"),
            offload: false,
            questions: sender,
            observer: Observer::new(move |event| log.lock().expect("not held").push(event)),
            counters: Arc::new(Counters::default()),
        });
        let (mut card, now) = (Card::default(), Instant::from_secs(1));
        let mut config = ClientConfig::new(HardwareAddress::Ethernet(EthernetAddress(MAC)));
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut card, now);
        iface.update_ip_addrs(|all| all.push(IpCidr::new(GUEST_V4.into(), 24)).expect("room"));
        iface.routes_mut().add_default_ipv4_route(GATEWAY_V4).expect("room");
        let (up, down) = (Wire::new(seed, weather), Wire::new(seed + 1000, weather));
        let sockets = SocketSet::new(Vec::new());
        Self { core, questions, events, card, iface, sockets, up, down, now }
    }

    fn connect(&mut self, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let to = (smoltcp::wire::IpAddress::v4(192, 0, 2, 1), 80);
        socket.connect(self.iface.context(), to, port).expect("a new socket");
        self.sockets.add(socket)
    }

    fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Lets everything happen that happens now, then moves the clock to the next event.
    fn step(&mut self) {
        while let Some(frame) = self.up.take(self.now) {
            self.core.frame(&frame, Sums::Unknown, self.now);
        }
        while let Some(frame) = self.down.take(self.now) {
            self.card.received.push_back(frame);
        }
        self.iface.poll(self.now, &mut self.card, &mut self.sockets);
        while let Some(frame) = self.card.sent.pop_front() {
            self.up.put(&frame, self.now);
        }
        let mut events = [EpollEvent::empty(); 16];
        let count = self.core.epoll.wait(&mut events, EpollTimeout::ZERO).expect("events");
        for event in &events[..count] {
            self.core.ready(FlowId(event.data()), event.events());
        }
        self.core.expire(self.now);
        self.core.run(self.now);
        while let Some(frame) = self.core.outbox.first() {
            self.down.put(frame, self.now);
            self.core.outbox.drop_first();
        }
        let arrivals = [&self.up, &self.down]
            .into_iter()
            .filter_map(|wire| wire.on_the_way.first_key_value().map(|(key, _)| key.0));
        let timers = [self.core.next_deadline(), self.iface.poll_at(self.now, &self.sockets)];
        let next = arrivals.chain(timers.into_iter().flatten()).min();
        // Whatever else happens is looked at every ten milliseconds.
        let most = self.now + Duration::from_millis(10);
        let least = self.now + Duration::from_micros(10);
        self.now = next.map_or(most, |next| next.clamp(least, most));
    }

    /// Steps until something holds, for at most ten virtual minutes.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(600);
        while !holds(self) {
            assert!(self.now < end, "waited in vain for {what}");
            self.step();
        }
    }

    fn question(&mut self) -> FlowId {
        let mut asked = None;
        self.until("a question", |world| {
            asked = world.questions.try_recv().ok();
            asked.is_some()
        });
        match asked.expect("a question") {
            Question::Flow(flow) => flow.id,
            _ => panic!("another question"),
        }
    }

    /// Accepts the next flow. Returns the upstream's end of it.
    fn accept(&mut self) -> UnixStream {
        let id = self.question();
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a mode");
        theirs.set_nonblocking(true).expect("a mode");
        self.core.answer(Answer::Opened(id, Opened::Socket(theirs.into())), self.now);
        ours
    }

    fn ends(&self) -> Vec<FlowEnd> {
        let all = self.events.lock().expect("not held");
        all.iter()
            .filter_map(|event| match event {
                Event::Closed { end, .. } => Some(*end),
                _ => None,
            })
            .collect()
    }
}

fn noise(seed: u64) -> Vec<u8> {
    let mut wire = Wire::new(seed, [0; 3]);
    (0..LENGTH).map(|_| u8::try_from(wire.roll(256)).expect("a byte")).collect()
}

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
    let (upward, downward) = (noise(seed + 1), noise(seed + 2));
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
