//! The core under a virtual clock, and what is around it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use smoltcp::iface::{Config as ClientConfig, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::core::{Core, Parts};
use super::super::counters::Counters;
use super::super::*;
use super::card::{Card, MTU};
use crate::egress::EgressOptions;
use crate::event::{Event, FlowEnd};
use crate::flow::FlowId;
use crate::link::{GATEWAY_V4, GUEST_V4};
use crate::policy::{Answer, Decision, Opened, Question};
use crate::wire::Sums;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A link in one direction. Percentages of frames that are lost and doubled; each is late by up to
/// `late` microseconds.
pub(crate) struct Wire {
    random: u64,
    pub(crate) lost: u64,
    doubled: u64,
    late: u64,
    on_the_way: BTreeMap<(Instant, u64), Vec<u8>>,
    count: u64,
}

impl Wire {
    pub(crate) fn new(seed: u64, [lost, doubled, late]: [u64; 3]) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { random, lost, doubled, late, on_the_way: BTreeMap::new(), count: 0 }
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    pub(crate) fn put(&mut self, frame: &[u8], now: Instant) {
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

    pub(crate) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let entry = self.on_the_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

/// A policy that the tests stand in for.
struct Undecided;

#[async_trait::async_trait]
impl Policy for Undecided {
    async fn decide(&self, _flow: &crate::flow::Flow) -> Decision {
        Decision::deny("nobody asks here")
    }
}

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) questions: UnboundedReceiver<Question>,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    card: Card,
    pub(crate) iface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) up: Wire,
    pub(crate) down: Wire,
    pub(crate) now: Instant,
}

impl World {
    pub(crate) fn new(seed: u64, weather: [u64; 3]) -> Self {
        Self::with(seed, weather, Arc::new(Undecided))
    }

    pub(crate) fn with(seed: u64, weather: [u64; 3], policy: Arc<dyn Policy>) -> Self {
        let (sender, questions) = unbounded_channel();
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let log = events.clone();
        let core = Core::new(Parts {
            config: Config { guest_mac: Some(MAC), mtu: MTU, ..Config::default() },
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an event queue"),
            policy: Arc::new(RwLock::new(policy)),
            egress: Egress::new(EgressOptions::default()),
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

    pub(crate) fn connect(&mut self, port: u16) -> SocketHandle {
        self.connect_to(port, SocketAddr::from(([192, 0, 2, 1], 80)))
    }

    pub(crate) fn connect_to(&mut self, port: u16, to: SocketAddr) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65_536]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.connect(self.iface.context(), to, port).expect("a new socket");
        self.sockets.add(socket)
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Lets everything happen that happens now, then moves the clock to the next event.
    pub(crate) fn step(&mut self) {
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
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + Duration::from_secs(600);
        while !holds(self) {
            assert!(self.now < end, "waited in vain for {what}");
            self.step();
        }
    }

    pub(crate) fn question(&mut self) -> FlowId {
        let mut asked = None;
        self.until("a question", |world| {
            asked = world.questions.try_recv().ok();
            asked.is_some()
        });
        match asked.expect("a question") {
            Question::Flow(flow, None) => flow.id,
            _ => panic!("another question"),
        }
    }

    /// The next question, which brings a denial along.
    pub(crate) fn denied_question(&mut self) -> FlowId {
        match self.questions.try_recv().expect("a question") {
            Question::Flow(flow, Some(Decision::Deny { .. })) => flow.id,
            _ => panic!("another question"),
        }
    }

    /// Accepts the next flow. Returns the upstream's end of it.
    pub(crate) fn accept(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a mode");
        theirs.set_nonblocking(true).expect("a mode");
        self.accept_with(theirs.into());
        ours
    }

    /// Accepts the next flow, with this as its upstream.
    pub(crate) fn accept_with(&mut self, socket: OwnedFd) {
        let id = self.question();
        self.core.answer(Answer::Opened(id, Opened::Socket(socket)), self.now);
    }

    pub(crate) fn ends(&self) -> Vec<FlowEnd> {
        let all = self.events.lock().expect("not held");
        all.iter()
            .filter_map(|event| match event {
                Event::Closed { end, .. } => Some(*end),
                _ => None,
            })
            .collect()
    }
}

/// Bytes that look random, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut wire = Wire::new(seed, [0; 3]);
    (0..length).map(|_| u8::try_from(wire.roll(256)).expect("a byte")).collect()
}
