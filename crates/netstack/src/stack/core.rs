//! The data path without its thread and clock: whoever drives it says what time it is.
//!
//! ```text
//! frame() ──► gateway, or a flow: new ──► Question ──► … ──► answer()
//!                                  known ─► marked ──► run(): bytes move, frames wait in the outbox
//! ready() ─► marked      expire() ─► marked
//! ```

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;
use tokio::sync::mpsc::UnboundedSender;

use super::config::Config;
use super::counters::Counters;
use super::inbound::{Attempt, Inbound};
use super::reaching::Reaching;
use crate::device::Device;
use crate::egress::Egress;
use crate::error::Error;
use crate::event::{Dropped, Event, FlowEnd, Observer};
use crate::flow::{Flow, FlowId, Origin, Table, Timers, Transport};
use crate::gateway::{Gateway, Handled};
use crate::policy::{CurrentPolicy, Question};
use crate::service::Resolver;
use crate::sys::Buffers;
use crate::tcp::{Connection, Link, Served, Tombstones};
use crate::udp::{Parked, Relay, RelayServed, Sent};
use crate::wire::{Frame, Outbox, Sums, refusal_frame};

/// Bytes of each buffer of the first connections.
const LARGE: NonZeroUsize = NonZeroUsize::new(256 * 1024).expect("it is not zero");
/// Bytes of each buffer when there are many.
const SMALL: NonZeroUsize = NonZeroUsize::new(64 * 1024).expect("it is not zero");
/// How many are the first.
const FIRST: usize = 256;
/// The longest datagram.
const SCRATCH: usize = 65_536;

/// A flow and what is known about it.
pub(super) struct Entry {
    pub(super) flow: Flow,
    pub(super) state: State,
    /// Whether it waits for its turn.
    marked: bool,
}

pub(super) enum State {
    /// A connection whose verdict is awaited: its SYN.
    Syn(Box<[u8]>),
    /// A connection that was accepted at once, and is being dialled.
    Reaching(Box<Reaching>),
    /// Datagrams whose verdict is awaited.
    Parked(Parked),
    Connection(Box<Connection>),
    /// A connection to a port of the guest that has not answered yet.
    Dialling(Box<Attempt>),
    Relay(Relay),
    /// Queries for the resolver; the bytes that went there and came back, and when it ends.
    Queries {
        resolver: Arc<dyn Resolver>,
        sent: u64,
        received: u64,
        until: Instant,
    },
    /// Datagrams that have been refused, until then.
    Refused {
        until: Instant,
    },
}

/// What the core is made with.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) epoll: Epoll,
    pub(crate) policy: CurrentPolicy,
    pub(crate) egress: Egress,
    pub(crate) offload: bool,
    pub(crate) questions: UnboundedSender<Question>,
    pub(crate) observer: Observer,
    pub(crate) counters: Arc<Counters>,
}

/// The data path.
pub(crate) struct Core {
    pub(super) config: Config,
    pub(super) epoll: Epoll,
    pub(super) policy: CurrentPolicy,
    pub(super) egress: Egress,
    offload: bool,
    pub(super) guest: Option<EthernetAddress>,
    pub(super) table: Table<Entry>,
    pub(super) tombstones: Tombstones,
    pub(super) timers: Timers,
    marked: VecDeque<FlowId>,
    pub(super) outbox: Outbox,
    pub(super) questions: UnboundedSender<Question>,
    pub(super) observer: Observer,
    counters: Arc<Counters>,
    large: Buffers,
    small: Buffers,
    seeds: RandomState,
    /// Flows that wait for a verdict.
    pub(super) undecided: usize,
    /// Queries that the resolver has.
    pub(super) queries: usize,
    /// Flows that the host has begun.
    pub(super) inbound: Inbound,
    scratch: Box<[u8]>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        let limits = parts.config.limits;
        Self {
            guest: parts.config.guest_mac.map(EthernetAddress),
            epoll: parts.epoll,
            policy: parts.policy,
            egress: parts.egress,
            offload: parts.offload,
            table: Table::new([limits.tcp, limits.udp, limits.icmp]),
            tombstones: Tombstones::default(),
            timers: Timers::default(),
            marked: VecDeque::new(),
            outbox: Outbox::new(parts.offload),
            questions: parts.questions,
            observer: parts.observer,
            counters: parts.counters,
            large: Buffers::new(LARGE),
            small: Buffers::new(SMALL),
            seeds: RandomState::new(),
            undecided: 0,
            queries: 0,
            inbound: Inbound::default(),
            scratch: vec![0; SCRATCH].into(),
            config: parts.config,
        }
    }

    /// Hands frames to the device. `true`: all of them.
    pub(crate) fn write(&mut self, device: &mut Device) -> Result<bool, Error> {
        let before = self.outbox.waiting_bytes();
        let written = device.write(&mut self.outbox);
        let out = before.saturating_sub(self.outbox.waiting_bytes());
        self.counters.frames_out.fetch_add(out as u64, Ordering::Relaxed);
        written
    }

    /// Takes in a frame of the guest.
    pub(crate) fn frame(&mut self, bytes: &[u8], sums: Sums, now: Instant) {
        self.counters.frames_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.outbox.is_flooded() {
            return self.dropped(Dropped::GuestBusy);
        }
        let frame = match Frame::parse(bytes, sums) {
            Ok(frame) => frame,
            Err(cause) => return self.dropped(cause),
        };
        let guest = *self.guest.get_or_insert(frame.source);
        if frame.source != guest || !guest.is_unicast() {
            self.guest = self.guest.filter(EthernetAddress::is_unicast);
            return self.dropped(Dropped::SpoofedMac);
        }
        let gateway = Gateway { guest, mtu: self.config.mtu };
        match gateway.handle(frame, &mut self.outbox) {
            Handled::Answered => {}
            Handled::Dropped(cause) => self.dropped(cause),
            Handled::Flow(packet) => self.packet(&packet, now),
        }
    }

    /// What epoll said about a flow's socket.
    pub(crate) fn ready(&mut self, id: FlowId, flags: EpollFlags) {
        let Some(entry) = self.table.get_mut(id) else { return };
        match &mut entry.state {
            State::Connection(connection) => connection.ready(
                flags.contains(EpollFlags::EPOLLIN),
                flags.contains(EpollFlags::EPOLLOUT),
                flags.intersects(
                    EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR,
                ),
            ),
            State::Relay(relay) => relay.ready(),
            State::Reaching(reaching) => reaching.ready(flags),
            _ => {}
        }
        self.mark(id);
    }

    /// Marks the flows whose time has come.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(id) = self.timers.due(now) {
            self.mark(id);
        }
    }

    /// When [`Core::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether [`Core::run`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        !self.marked.is_empty() && self.outbox.has_room()
    }

    /// Gives each marked flow its turn, while the outbox has room.
    pub(crate) fn run(&mut self, now: Instant) {
        for _ in 0..self.marked.len() {
            if !self.outbox.has_room() {
                break;
            }
            if let Some(id) = self.marked.pop_front() {
                self.serve(id, now);
            }
        }
        self.publish();
    }

    fn serve(&mut self, id: FlowId, now: Instant) {
        let link = self.link();
        let Some(entry) = self.table.get_mut(id) else { return };
        entry.marked = false;
        match entry.state {
            State::Dialling(_) => return self.serve_dialling(id, now),
            State::Reaching(_) => return self.serve_reaching(id, now),
            _ => {}
        }
        let (served, tombstone) = match &mut entry.state {
            State::Connection(connection) => match connection.serve(&mut self.outbox, now) {
                Served::Waits(at) => (Ok(at), None),
                Served::MayGoOn => (Err(None), None),
                Served::Over(end, stone) => (Err(Some(end)), stone),
            },
            State::Relay(relay) => {
                let (flow, observer, counters) = (&entry.flow, &self.observer, &self.counters);
                let mut tell = |outbox: &mut Outbox, sent: Sent| match sent {
                    Sent::Yes => {}
                    Sent::No(cause) => counters.count(cause, observer),
                    Sent::Refused(refusal) => {
                        let quoted = super::verdict::stand_in(flow);
                        let ends = (flow.source.ip(), flow.destination.ip());
                        refusal_frame(outbox, link.mac, ends, &quoted, refusal);
                    }
                };
                let frames = (&mut self.outbox, &mut self.scratch[..]);
                match relay.serve(flow, link, frames, now, &mut tell) {
                    RelayServed::Waits(at) => (Ok(Some(at)), None),
                    RelayServed::MayGoOn => (Err(None), None),
                    RelayServed::Expired => (Err(Some(FlowEnd::Expired)), None),
                }
            }
            State::Queries { until, .. } | State::Refused { until } if now < *until => {
                (Ok(Some(*until)), None)
            }
            State::Queries { .. } | State::Refused { .. } => (Err(Some(FlowEnd::Expired)), None),
            State::Syn(_) | State::Parked(_) | State::Dialling(_) | State::Reaching(_) => {
                (Ok(None), None)
            }
        };
        match served {
            Ok(at) => self.timers.set(id, at),
            Err(None) => self.mark(id),
            Err(Some(end)) => {
                if let Some((key, stone)) = self.close(id, end).zip(tombstone) {
                    self.tombstones.add(key, stone, now);
                }
            }
        }
    }

    /// Gives a flow a turn.
    pub(super) fn mark(&mut self, id: FlowId) {
        if let Some(entry) = self.table.get_mut(id)
            && !entry.marked
        {
            entry.marked = true;
            self.marked.push_back(id);
        }
    }

    /// A new entry of the table.
    pub(super) fn entry(flow: Flow, state: State) -> Entry {
        Entry { flow, state, marked: false }
    }

    /// Takes a flow out of the table, and tells of its end if it had been open.
    pub(super) fn close(&mut self, id: FlowId, end: FlowEnd) -> Option<crate::flow::Key> {
        self.timers.set(id, None);
        let (key, entry) = self.table.remove(id)?;
        if entry.flow.origin == Origin::Host {
            self.inbound.count -= 1;
        }
        let bytes = match &entry.state {
            State::Connection(connection) => Some((connection.sent, connection.received)),
            State::Relay(relay) => Some((relay.sent, relay.received)),
            State::Queries { sent, received, .. } => Some((*sent, *received)),
            State::Syn(_) | State::Reaching(_) | State::Parked(_) => {
                self.undecided -= 1;
                None
            }
            State::Refused { .. } | State::Dialling(_) => None,
        };
        if let Some((sent, received)) = bytes {
            self.counters.sent.fetch_add(sent, Ordering::Relaxed);
            self.counters.received.fetch_add(received, Ordering::Relaxed);
            self.observer.tell(Event::Closed { flow: entry.flow, sent, received, end });
        }
        Some(key)
    }

    /// Ends every flow: those that are open are reset.
    pub(crate) fn shut_down(&mut self) {
        for id in self.table.ids() {
            match self.table.get_mut(id).map(|entry| &entry.state) {
                Some(State::Connection(connection)) => connection.upstream().reset(),
                Some(State::Dialling(attempt)) => attempt.connection.upstream().reset(),
                _ => {}
            }
            self.close(id, FlowEnd::Shutdown);
        }
        self.publish();
    }

    /// Tells epoll to watch a flow's socket.
    pub(super) fn watch(epoll: &Epoll, id: FlowId, socket: impl AsFd) -> nix::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        epoll.add(socket, EpollEvent::new(flags, id.0))
    }

    pub(super) fn dropped(&self, cause: Dropped) {
        self.counters.count(cause, &self.observer);
    }

    pub(super) fn link(&self) -> Link {
        let mac = self.guest.unwrap_or(EthernetAddress::BROADCAST);
        Link { mac, mtu: self.config.mtu, offload: self.offload }
    }

    /// Buffers and a random number for a new connection.
    pub(super) fn resources(&self, id: FlowId) -> (&Buffers, u64) {
        let many = self.table.count(Transport::Tcp) > FIRST;
        let buffers = if many { &self.small } else { &self.large };
        (buffers, self.seeds.hash_one(id.0))
    }

    fn publish(&self) {
        for (transport, counter) in [
            (Transport::Tcp, &self.counters.tcp),
            (Transport::Udp, &self.counters.udp),
            (Transport::Icmp, &self.counters.icmp),
        ] {
            counter.store(self.table.count(transport) as u64, Ordering::Relaxed);
        }
    }
}
