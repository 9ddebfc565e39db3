//! Connections that the host begins: to a port of the guest, at one of its addresses, then the other.
//!
//! ```text
//! Dial ──► Attempt ──► SYN-ACK: the flow is open
//!             │ ▲ RST, silence: the other address
//!             ▼ │
//!           neither: the client is reset
//! ```
//!
//! The guest sees the address that stands for the host. The policy is not asked: who may connect is
//! the business of whoever listens on the host.

use std::net::{IpAddr, SocketAddr};

use smoltcp::time::{Duration, Instant};
use tokio::sync::oneshot;

use super::core::{Core, Entry, State};
use super::ports::ConnectGuestError;
use crate::event::{Event, FlowEnd};
use crate::flow::{Flow, FlowId, Key, Origin, Transport};
use crate::link::{GUEST_V4, GUEST_V6, HOST_V4, HOST_V6};
use crate::tcp::{Connection, Dialled, Served, Upstream};

/// How long the second address may take when the first has refused: a guest that refuses is awake.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);
/// Ports of ours that are used, one after the other: a guest that keeps a connection in TIME-WAIT
/// is not to meet its port again soon.
const FIRST_PORT: u16 = 1024;

/// A connection that somebody wants.
pub(crate) struct Dial {
    /// The guest's port, not 0.
    pub(crate) port: u16,
    /// Whether the guest's IPv6 address is tried first.
    pub(crate) v6: bool,
    pub(crate) client: Upstream,
    pub(crate) reply: oneshot::Sender<Result<FlowId, ConnectGuestError>>,
}

/// A connection that the guest has not answered.
pub(crate) struct Attempt {
    pub(super) connection: Box<Connection>,
    wanted: Wanted,
    /// When this attempt is over.
    until: Instant,
}

/// What is left of a [`Dial`] while it is tried.
struct Wanted {
    reply: oneshot::Sender<Result<FlowId, ConnectGuestError>>,
    /// Whether there is another address to try.
    again: bool,
    /// Whether an address has refused.
    refused: bool,
    /// When all attempts are over.
    until: Instant,
}

/// What is known about connections that the host begins.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// How many there are.
    pub(super) count: usize,
    last_port: u16,
    /// Whether the guest's address of IPv4, of IPv6, has left a connection unanswered.
    silent: [bool; 2],
}

impl Inbound {
    fn next_port(&mut self) -> u16 {
        self.last_port = self.last_port.wrapping_add(1).max(FIRST_PORT);
        self.last_port
    }
}

impl Core {
    /// Begins a connection to a port of the guest.
    pub(crate) fn dial(&mut self, dial: Dial, now: Instant) {
        let Dial { port, v6, client, reply } = dial;
        let refused = if self.guest.is_none() {
            Some(ConnectGuestError::NoGuest)
        } else if self.inbound.count >= self.config.limits.inbound {
            Some(ConnectGuestError::Limit)
        } else {
            None
        };
        if let Some(error) = refused {
            return give_up(&client, reply, error);
        }
        let silent = self.inbound.silent;
        let v6 = if silent[usize::from(v6)] { silent[usize::from(!v6)] == v6 } else { v6 };
        let until = now + self.config.guest_connect_timeout.into();
        let wanted = Wanted { reply, again: true, refused: false, until };
        self.attempt(port, v6, client, wanted, now);
    }

    fn attempt(&mut self, port: u16, v6: bool, client: Upstream, wanted: Wanted, now: Instant) {
        let (guest, host): (IpAddr, IpAddr) = match v6 {
            false => (GUEST_V4.into(), HOST_V4.into()),
            true => (GUEST_V6.into(), HOST_V6.into()),
        };
        let source = SocketAddr::new(guest, port);
        let Some(key) = self.free_key(port, host) else {
            return give_up(&client, wanted.reply, ConnectGuestError::Limit);
        };
        let (transport, destination) = (Transport::Tcp, key.destination);
        let flow = |id| Flow { id, transport, source, destination, origin: Origin::Host };
        // The state is put in below: what it is made of depends on the number.
        let state = State::Refused { until: now };
        let Ok(id) = self.table.insert(key, |id| Self::entry(flow(id), state)) else {
            return give_up(&client, wanted.reply, ConnectGuestError::Limit);
        };
        self.inbound.count += 1;
        let (buffers, seed) = self.resources(id);
        let made = Connection::new(&flow(id), client, buffers, self.link(), (now, seed));
        let connection = match made {
            Ok(connection) => connection,
            Err(error) => {
                self.close(id, FlowEnd::Finished);
                // Nobody may wait any more.
                return drop(wanted.reply.send(Err(error.into())));
            }
        };
        let left = wanted.until - now;
        let until = now
            + match (wanted.again, wanted.refused) {
                (true, _) => left / 2,
                (false, true) => left.min(AFTER_REFUSAL),
                (false, false) => left,
            };
        if let Some(entry) = self.table.get_mut(id) {
            entry.state = State::Dialling(Box::new(Attempt { connection, wanted, until }));
        }
        self.mark(id);
    }

    /// A pair of ports that no flow has, nor had a moment ago.
    fn free_key(&mut self, port: u16, host: IpAddr) -> Option<Key> {
        (0..=u16::MAX).find_map(|_| {
            let destination = SocketAddr::new(host, self.inbound.next_port());
            let key = Key { transport: Transport::Tcp, source: port, destination };
            self.table.find(&key).is_none().then_some(key)
        })
    }

    /// Gives a connection its turn that the guest has not answered yet.
    pub(super) fn serve_dialling(&mut self, id: FlowId, now: Instant) {
        let Some(Entry { state: State::Dialling(attempt), .. }) = self.table.get_mut(id) else {
            return;
        };
        let over = match attempt.connection.dialled() {
            None if now < attempt.until && !attempt.wanted.reply.is_closed() => {
                let served = attempt.connection.serve(&mut self.outbox, now);
                match served {
                    Served::Waits(at) => {
                        let at = at.map_or(attempt.until, |at| at.min(attempt.until));
                        return self.timers.set(id, Some(at));
                    }
                    Served::MayGoOn => return self.mark(id),
                    Served::Over(..) => Some(Dialled::Refused),
                }
            }
            over => over,
        };
        let Some(entry) = self.table.get_mut(id) else { return };
        let before = std::mem::replace(&mut entry.state, State::Refused { until: now });
        let State::Dialling(attempt) = before else { return };
        match over {
            Some(Dialled::Open) => self.dialled(id, *attempt),
            Some(Dialled::Refused) => self.not_dialled(id, *attempt, true, now),
            None => self.not_dialled(id, *attempt, false, now),
        }
    }

    fn dialled(&mut self, id: FlowId, attempt: Attempt) {
        let Attempt { mut connection, wanted, .. } = attempt;
        let watched = Self::watch(&self.epoll, id, connection.upstream());
        if watched.is_err() {
            connection.abort(FlowEnd::UpstreamReset);
        }
        let Some(entry) = self.table.get_mut(id) else { return };
        entry.state = State::Connection(connection);
        let flow = entry.flow.clone();
        self.inbound.silent[usize::from(flow.source.is_ipv6())] = false;
        self.observer.tell(Event::Opened { flow });
        // Nobody may wait any more: then the other end is closed, and that is carried over.
        let _ = wanted
            .reply
            .send(watched.map(|()| id).map_err(|error| ConnectGuestError::Io(error.into())));
        self.mark(id);
    }

    fn not_dialled(&mut self, id: FlowId, attempt: Attempt, refused: bool, now: Instant) {
        let Attempt { connection, mut wanted, .. } = attempt;
        let client = connection.into_upstream();
        let Some(flow) = self.table.get_mut(id).map(|entry| entry.flow.clone()) else { return };
        self.close(id, FlowEnd::Finished);
        let v6 = flow.source.is_ipv6();
        self.inbound.silent[usize::from(v6)] = !refused;
        wanted.refused |= refused;
        if wanted.again && !wanted.reply.is_closed() {
            wanted.again = false;
            return self.attempt(flow.source.port(), !v6, client, wanted, now);
        }
        let (error, errno) = match wanted.refused {
            true => (ConnectGuestError::Refused, libc::ECONNREFUSED),
            false => (ConnectGuestError::TimedOut, 0),
        };
        self.observer.tell(Event::DialFailed { flow, errno });
        give_up(&client, wanted.reply, error);
    }
}

/// Lets the client go, and whoever waits for it know.
fn give_up(
    client: &Upstream,
    reply: oneshot::Sender<Result<FlowId, ConnectGuestError>>,
    error: ConnectGuestError,
) {
    client.reset();
    // Nobody may wait any more.
    let _ = reply.send(Err(error));
}
