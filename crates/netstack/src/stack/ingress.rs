//! Packets of the guest that belong to flows, or begin them.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use smoltcp::time::{Duration, Instant};

use super::core::{Core, State};
use crate::address::canonical;
use crate::egress;
use crate::event::{DenyReason, Dropped, Event, FlowEnd};
use crate::flow::{Flow, FlowId, Key, Origin, Transport};
use crate::icmp;
use crate::link::{self, RESOLVER_PORT};
use crate::policy::{Decision, Grants, Question};
use crate::tcp::Link;
use crate::udp::{Parked, Sent};
use crate::wire::{
    Icmp4, Icmp6, Packet, Payload, Refusal, Route, Segment, Udp, refusal_frame, tcp_frame,
};

/// How long queries keep their flow after the last.
pub(super) const QUERY_LIFE: Duration = Duration::from_secs(30);

/// A datagram or echo request as its flow sees it.
struct Message<'a> {
    key: Key,
    /// For the host's socket, or for the resolver.
    bytes: std::borrow::Cow<'a, [u8]>,
    /// Bytes that count.
    payload: usize,
}

impl Core {
    /// Takes in a packet that is not for the gateway itself.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, now: Instant) {
        let destination = packet.destination;
        if destination != canonical(destination)
            || destination.is_unspecified()
            || destination == packet.source
        {
            return self.dropped(Dropped::BadDestination);
        }
        if let Payload::Tcp(segment) = &packet.payload {
            return self.segment(packet, segment, now);
        }
        match message(packet) {
            Some(message) => self.message(packet, message, now),
            None => self.dropped(match packet.payload {
                Payload::Other => Dropped::UnsupportedProtocol,
                _ => Dropped::NotServed,
            }),
        }
    }

    fn segment(&mut self, packet: &Packet<'_>, segment: &Segment<'_>, now: Instant) {
        let key = Key {
            transport: Transport::Tcp,
            source: segment.source_port,
            destination: SocketAddr::new(packet.destination, segment.destination_port),
        };
        if let Some(id) = self.table.find(&key) {
            return self.segment_of(id, packet, segment, now);
        }
        let opens = segment.syn && !segment.ack;
        if let Some(stone) = self.tombstones.get(&key, now) {
            if opens {
                self.tombstones.remove(&key);
            } else {
                if segment.length() > 0 && !segment.rst {
                    let numbers = (stone.sequence, Some(stone.acknowledged), false);
                    self.reply(packet, segment, numbers);
                }
                return;
            }
        }
        if !opens {
            self.dropped(Dropped::NoConnection);
            return self.refuse_segment(packet, segment);
        }
        if link::is_gateway(packet.destination) && segment.destination_port != RESOLVER_PORT {
            self.dropped(Dropped::NotServed);
            return self.refuse_segment(packet, segment);
        }
        if self.begin(key, packet, State::Syn(packet.bytes.into()), now).is_none() {
            self.refuse_segment(packet, segment);
        }
    }

    fn segment_of(&mut self, id: FlowId, packet: &Packet<'_>, segment: &Segment<'_>, now: Instant) {
        let Some(entry) = self.table.get_mut(id) else { return };
        match &mut entry.state {
            State::Connection(connection) => {
                connection.take(packet.bytes, segment, &mut self.outbox, now);
                self.mark(id);
            }
            State::Dialling(attempt) => {
                attempt.connection.take(packet.bytes, segment, &mut self.outbox, now);
                self.mark(id);
            }
            State::Syn(_) if segment.rst => {
                self.close(id, FlowEnd::GuestReset);
                // The broker lives as long as there are questions.
                let _ = self.questions.send(Question::GivenUp(id));
            }
            // The same again, or another attempt from the same port: the last one counts.
            State::Syn(syn) if segment.syn && !segment.ack => *syn = packet.bytes.into(),
            // The socket is dropped, and whoever is being dialled gets to know.
            State::Reaching(_) if segment.rst => drop(self.close(id, FlowEnd::GuestReset)),
            State::Reaching(reaching) if segment.syn && !segment.ack => {
                reaching.syn = packet.bytes.into();
            }
            _ => {}
        }
    }

    /// Puts a new flow into the table and asks about it. `None`: it is to be refused.
    fn begin(
        &mut self,
        key: Key,
        packet: &Packet<'_>,
        state: State,
        now: Instant,
    ) -> Option<FlowId> {
        if self.undecided >= self.config.limits.undecided {
            self.dropped(Dropped::FlowLimit);
            return None;
        }
        let source = SocketAddr::new(packet.source, key.source);
        let (transport, destination) = (key.transport, key.destination);
        let flow = |id| Flow { id, transport, source, destination, origin: Origin::Guest };
        let Ok(id) = self.table.insert(key, |id| Self::entry(flow(id), state)) else {
            self.dropped(Dropped::FlowLimit);
            return None;
        };
        self.undecided += 1;
        let flow = flow(id);
        // What can never be dialled is not asked about.
        if !flow.is_to_resolver()
            && let Err(error) = egress::target(destination, Grants { link_local: true })
        {
            let detail = error.to_string();
            self.close(id, FlowEnd::Finished);
            self.observer.tell(Event::Denied { flow, reason: DenyReason::Address, detail });
            return None;
        }
        let decision = self.settle(&flow);
        if let (Some(Decision::Accept(grants)), Transport::Tcp) = (&decision, flow.transport)
            && self.reach(&flow, *grants, now)
        {
            return Some(id);
        }
        // The broker lives as long as there are questions.
        let _ = self.questions.send(Question::Flow(flow, decision));
        Some(id)
    }

    fn message(&mut self, packet: &Packet<'_>, message: Message<'_>, now: Instant) {
        let Some(id) = self.table.find(&message.key) else {
            return self.first_message(packet, message.key, now);
        };
        self.message_of(id, packet, &message, now);
    }

    fn first_message(&mut self, packet: &Packet<'_>, key: Key, now: Instant) {
        let port = key.destination.port();
        if link::is_gateway(packet.destination) && port != RESOLVER_PORT {
            self.dropped(Dropped::NotServed);
            return self.refuse(packet, Refusal::Port);
        }
        let mut parked = Parked::default();
        parked.add(packet.bytes);
        if self.begin(key, packet, State::Parked(parked), now).is_none() {
            self.refuse(packet, Refusal::Prohibited);
        }
    }

    fn message_of(&mut self, id: FlowId, packet: &Packet<'_>, message: &Message<'_>, now: Instant) {
        let Some(entry) = self.table.get_mut(id) else { return };
        match &mut entry.state {
            State::Parked(parked) => {
                if !parked.add(packet.bytes) {
                    self.dropped(Dropped::ParkedLimit);
                }
            }
            State::Relay(relay) => {
                let sent = relay.send(&message.bytes, message.payload, now);
                self.mark(id);
                match sent {
                    Sent::Yes => {}
                    Sent::No(cause) => self.dropped(cause),
                    Sent::Refused(refusal) => self.refuse(packet, refusal),
                }
            }
            State::Queries { resolver, sent, until, .. } => {
                if self.queries >= self.config.limits.queries {
                    return self.dropped(Dropped::ResolverLimit);
                }
                self.queries += 1;
                *sent += message.payload as u64;
                *until = now + QUERY_LIFE;
                let query = Bytes::copy_from_slice(&message.bytes);
                let question = Question::Query(entry.flow.clone(), resolver.clone(), query);
                // The broker lives as long as there are questions.
                let _ = self.questions.send(question);
                self.mark(id);
            }
            State::Refused { .. } => self.refuse(packet, Refusal::Prohibited),
            State::Syn(_) | State::Reaching(_) | State::Connection(_) | State::Dialling(_) => {}
        }
    }

    /// Takes in a packet that has been waiting for its flow's verdict.
    pub(super) fn unpark(&mut self, id: FlowId, bytes: &[u8], now: Instant) {
        let Some(packet) = Packet::again(bytes) else { return };
        if let Some(message) = message(&packet) {
            self.message_of(id, &packet, &message, now);
        }
    }

    /// Answers with an ICMP error.
    pub(super) fn refuse(&mut self, packet: &Packet<'_>, refusal: Refusal) {
        if !self.outbox.has_room() {
            return self.dropped(Dropped::GuestBusy);
        }
        let Link { mac, .. } = self.link();
        let ends = (packet.source, packet.destination);
        refusal_frame(&mut self.outbox, mac, ends, packet.bytes, refusal);
    }

    /// Answers with a reset (RFC 9293, 3.10.7.1).
    pub(super) fn refuse_segment(&mut self, packet: &Packet<'_>, segment: &Segment<'_>) {
        if segment.rst {
            return;
        }
        let numbers = if segment.ack {
            (segment.acknowledged, None, true)
        } else {
            (0, Some(segment.sequence.wrapping_add(segment.length())), true)
        };
        self.reply(packet, segment, numbers);
    }

    fn reply(
        &mut self,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
        numbers: (u32, Option<u32>, bool),
    ) {
        if !self.outbox.has_room() {
            return self.dropped(Dropped::GuestBusy);
        }
        let Link { mac, .. } = self.link();
        let route = Route { mac, source: packet.destination, destination: packet.source };
        let ports = (segment.destination_port, segment.source_port);
        tcp_frame(&mut self.outbox, route, ports, numbers);
    }
}

fn message<'a>(packet: &Packet<'a>) -> Option<Message<'a>> {
    let echo = |ident, sequence, data: &[u8]| {
        let destination = SocketAddr::new(packet.destination, 0);
        let v6 = matches!(packet.destination, IpAddr::V6(_));
        Message {
            key: Key { transport: Transport::Icmp, source: ident, destination },
            bytes: icmp::request(v6, sequence, data).into(),
            payload: data.len(),
        }
    };
    match packet.payload {
        Payload::Udp(Udp { source_port, destination_port, payload }) => Some(Message {
            key: Key {
                transport: Transport::Udp,
                source: source_port,
                destination: SocketAddr::new(packet.destination, destination_port),
            },
            bytes: payload.into(),
            payload: payload.len(),
        }),
        Payload::Icmp4(Icmp4::Echo { ident, sequence, data })
        | Payload::Icmp6(Icmp6::Echo { ident, sequence, data }) => {
            Some(echo(ident, sequence, data))
        }
        _ => None,
    }
}
