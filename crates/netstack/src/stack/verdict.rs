//! What the broker's answers do to flows.

use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr};

use super::core::{Core, State};
use super::ingress::QUERY_LIFE;
use crate::egress::DialError;
use crate::event::{Dropped, Event, FlowEnd};
use crate::flow::{Flow, FlowId, Transport};
use crate::policy::{Answer, Opened};
use crate::tcp::{Connection, Upstream};
use crate::udp::{self, Relay, Sent};
use crate::wire::{HOP_LIMIT, Packet, Payload, Refusal};

/// How long a refusal holds before the policy is asked about such datagrams again.
const REFUSAL_LIFE: Duration = Duration::from_secs(10);

/// How the guest learns that there will be no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    Reset,
    Icmp(Refusal),
}

impl Core {
    /// Takes in an answer of the broker.
    pub(crate) fn answer(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Opened(id, opened) => self.opened(id, opened, now),
            Answer::Denied(id, reason, detail) => {
                if let Some(flow) = self.flow(id) {
                    let no = match flow.transport {
                        Transport::Tcp => No::Reset,
                        Transport::Udp | Transport::Icmp => No::Icmp(Refusal::Prohibited),
                    };
                    self.refuse_flow(id, no, now);
                    self.observer.tell(Event::Denied { flow, reason, detail });
                }
            }
            Answer::Failed(id, error) => {
                if let Some(flow) = self.flow(id) {
                    self.refuse_flow(id, meaning(flow.transport, &error), now);
                    let errno = error.errno();
                    self.observer.tell(Event::DialFailed { flow, errno });
                }
            }
            Answer::Reply(id, reply) => self.reply_to(id, reply.as_deref(), now),
        }
    }

    fn flow(&mut self, id: FlowId) -> Option<Flow> {
        self.table.get_mut(id).map(|entry| entry.flow.clone())
    }

    fn opened(&mut self, id: FlowId, opened: Opened, now: Instant) {
        let Some(flow) = self.flow(id) else {
            // The guest has given the flow up meanwhile.
            if let Opened::Service(_, resets) = opened {
                resets.guest_did();
            }
            return;
        };
        let result = match (flow.transport, opened) {
            (Transport::Tcp, Opened::Socket(socket)) => {
                self.connected(&flow, Upstream::socket(socket), now)
            }
            (Transport::Tcp, Opened::Service(socket, resets)) => {
                self.connected(&flow, Upstream::local(socket, resets), now)
            }
            (_, Opened::Socket(socket)) => {
                let watched = Self::watch(&self.epoll, id, &socket);
                watched.map_err(Into::into).map(|()| {
                    self.replace(id, State::Relay(Relay::new(socket, now)), now);
                })
            }
            (Transport::Udp, Opened::Resolver(resolver)) => {
                let until = now + QUERY_LIFE;
                self.replace(id, State::Queries { resolver, sent: 0, received: 0, until }, now);
                Ok(())
            }
            // The broker gives services to connections only, and the resolver to datagrams only.
            (_, Opened::Service(..) | Opened::Resolver(_)) => {
                Err(std::io::ErrorKind::Unsupported.into())
            }
        };
        match result {
            Ok(()) => self.observer.tell(Event::Opened { flow }),
            Err(error) => self.answer(Answer::Failed(id, DialError::Io(error)), now),
        }
    }

    fn connected(&mut self, flow: &Flow, upstream: Upstream, now: Instant) -> std::io::Result<()> {
        let id = flow.id;
        Self::watch(&self.epoll, id, &upstream)?;
        let (buffers, seed) = self.resources(id);
        let connection = Connection::new(flow, upstream, buffers, self.link(), (now, seed))?;
        self.replace(id, State::Connection(connection), now);
        Ok(())
    }

    /// Puts a flow into the state that its verdict leads to, and lets in what has been waiting.
    fn replace(&mut self, id: FlowId, state: State, now: Instant) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let before = std::mem::replace(&mut entry.state, state);
        match before {
            State::Syn(syn) => {
                self.undecided -= 1;
                let packet = Packet::again(&syn);
                if let (Some(packet), State::Connection(connection)) = (packet, &mut entry.state)
                    && let Payload::Tcp(segment) = &packet.payload
                {
                    connection.take(&syn, segment, &mut self.outbox, now);
                }
            }
            State::Parked(parked) => {
                self.undecided -= 1;
                for packet in parked.into_packets() {
                    self.unpark(id, &packet, now);
                }
            }
            _ => {}
        }
        self.mark(id);
    }

    /// Tells the guest that there will be no flow. Datagrams are refused for a while.
    fn refuse_flow(&mut self, id: FlowId, no: No, now: Instant) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let until = now + REFUSAL_LIFE;
        let first = match std::mem::replace(&mut entry.state, State::Refused { until }) {
            State::Syn(syn) => Some(syn),
            State::Parked(parked) => parked.first().map(Into::into),
            other => {
                entry.state = other;
                return;
            }
        };
        let transport = entry.flow.transport;
        self.undecided -= 1;
        let first = first.unwrap_or_default();
        if let Some(packet) = Packet::again(&first) {
            match (no, &packet.payload) {
                (No::Reset, Payload::Tcp(segment)) => self.refuse_segment(&packet, segment),
                (No::Reset, _) => self.refuse(&packet, Refusal::Prohibited),
                (No::Icmp(refusal), _) => self.refuse(&packet, refusal),
            }
        }
        if transport == Transport::Tcp {
            self.close(id, FlowEnd::Finished);
        } else {
            self.mark(id);
        }
    }

    fn reply_to(&mut self, id: FlowId, reply: Option<&[u8]>, now: Instant) {
        self.queries = self.queries.saturating_sub(1);
        let link = self.link();
        let (Some(reply), Some(entry)) = (reply, self.table.get_mut(id)) else { return };
        let State::Queries { received, until, .. } = &mut entry.state else { return };
        if !self.outbox.has_room() {
            return self.dropped(Dropped::GuestBusy);
        }
        *until = now + QUERY_LIFE;
        match udp::answer(&entry.flow, link, &mut self.outbox, reply) {
            Sent::Yes => *received += reply.len() as u64,
            Sent::No(cause) => self.dropped(cause),
            Sent::Refused(_) => {}
        }
    }
}

/// What the guest is told about a failure.
fn meaning(transport: Transport, error: &DialError) -> No {
    match error.errno() {
        libc::EHOSTUNREACH | libc::EHOSTDOWN => No::Icmp(Refusal::Host),
        libc::ENETUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL => No::Icmp(Refusal::Network),
        libc::EACCES | libc::EPERM => No::Icmp(Refusal::Prohibited),
        // The deadline.
        0 | libc::ETIMEDOUT => No::Icmp(Refusal::Host),
        _ if transport == Transport::Tcp => No::Reset,
        libc::ECONNREFUSED => No::Icmp(Refusal::Port),
        _ => No::Icmp(Refusal::Prohibited),
    }
}

/// A packet as the guest has sent them in this flow, for an error that is told without one: the
/// headers by which the guest finds its socket.
pub(super) fn stand_in(flow: &Flow) -> Vec<u8> {
    let (source, destination) = (flow.source, flow.destination);
    let mut payload = [0; 8];
    let protocol = match (flow.transport, source.ip()) {
        (Transport::Icmp, IpAddr::V4(_)) => IpProtocol::Icmp,
        (Transport::Icmp, IpAddr::V6(_)) => IpProtocol::Icmpv6,
        _ => IpProtocol::Udp,
    };
    if flow.transport == Transport::Icmp {
        payload[0] = if source.is_ipv4() { 8 } else { 128 };
        payload[4..6].copy_from_slice(&source.port().to_be_bytes());
    } else {
        payload[0..2].copy_from_slice(&source.port().to_be_bytes());
        payload[2..4].copy_from_slice(&destination.port().to_be_bytes());
        payload[4..6].copy_from_slice(&8_u16.to_be_bytes());
    }
    let mut packet = match (source.ip(), destination.ip()) {
        (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
            let (next_header, payload_len, hop_limit) = (protocol, payload.len(), HOP_LIMIT);
            let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut bytes = vec![0; repr.buffer_len()];
            let sums = smoltcp::phy::ChecksumCapabilities::default();
            repr.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &sums);
            bytes
        }
        (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
            let (next_header, payload_len, hop_limit) = (protocol, payload.len(), HOP_LIMIT);
            let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
            let mut bytes = vec![0; repr.buffer_len()];
            repr.emit(&mut Ipv6Packet::new_unchecked(&mut bytes[..]));
            bytes
        }
        // Both ends of a flow are of one family.
        _ => Vec::new(),
    };
    packet.extend_from_slice(&payload);
    packet
}
