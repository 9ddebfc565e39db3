//! Datagrams between the guest and one destination: UDP, and the echo requests of [`crate::icmp`].
//!
//! Read: RFC 768; RFC 4787 for how long a flow lives.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use smoltcp::time::{Duration, Instant};

use crate::event::Dropped;
use crate::flow::{Flow, Transport};
use crate::icmp;
use crate::tcp::Link;
use crate::wire::{Outbox, Refusal, Route, udp_frame};

/// Bytes that a flow may hold while it waits for its verdict.
const PARKED_BYTES: usize = 64 * 1024;
/// Datagrams that it may hold.
const PARKED: usize = 16;
/// Datagrams from the host that are carried in one turn.
const TURN: usize = 64;
/// How long a flow lives that only the guest has spoken in.
const ONE_WAY: Duration = Duration::from_secs(30);
/// How long a flow lives that both have spoken in (RFC 4787, REQ-5: not less than two minutes).
const BOTH_WAYS: Duration = Duration::from_secs(180);

/// Packets that wait for a verdict.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Parked {
    /// Keeps a packet. `false`: there are enough.
    pub(crate) fn add(&mut self, packet: &[u8]) -> bool {
        if self.packets.len() >= PARKED
            || self.bytes + packet.len() > PARKED_BYTES.max(packet.len())
        {
            return false;
        }
        self.bytes += packet.len();
        self.packets.push_back(packet.into());
        true
    }

    pub(crate) fn first(&self) -> Option<&[u8]> {
        self.packets.front().map(AsRef::as_ref)
    }

    pub(crate) fn into_packets(self) -> impl Iterator<Item = Box<[u8]>> {
        self.packets.into_iter()
    }
}

/// An accepted flow of datagrams.
#[derive(Debug)]
pub(crate) struct Relay {
    socket: OwnedFd,
    readable: bool,
    answered: bool,
    active: Instant,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// What became of a datagram of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    No(Dropped),
    /// The destination had refused an earlier one, or there is no way to it: the guest is to know.
    Refused(Refusal),
}

/// What became of a flow in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayServed {
    Waits(Instant),
    MayGoOn,
    Expired,
}

impl Relay {
    pub(crate) fn new(socket: OwnedFd, now: Instant) -> Self {
        Self { socket, readable: true, answered: false, active: now, sent: 0, received: 0 }
    }

    pub(crate) fn ready(&mut self) {
        self.readable = true;
    }

    /// Sends what a datagram or echo request of the guest carries.
    pub(crate) fn send(&mut self, message: &[u8], payload: usize, now: Instant) -> Sent {
        self.active = now;
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // An error of an earlier datagram is told to the next, once.
        let mut result = send(self.socket.as_raw_fd(), message, flags);
        let mut refused = None;
        if let Err(error) = result {
            refused = refusal(error);
            if refused.is_some() {
                result = send(self.socket.as_raw_fd(), message, flags);
            }
        }
        match (result, refused) {
            (Ok(_), None) => {
                self.sent += payload as u64;
                Sent::Yes
            }
            (_, Some(refusal)) => Sent::Refused(refusal),
            (Err(Errno::EMSGSIZE), None) => Sent::No(Dropped::TooBig),
            (Err(_), None) => Sent::No(Dropped::HostBusy),
        }
    }

    /// Carries what has come for the guest. `tell` hears of what could not be carried, and of the
    /// destination's refusals.
    pub(crate) fn serve(
        &mut self,
        flow: &Flow,
        link: Link,
        (outbox, scratch): (&mut Outbox, &mut [u8]),
        now: Instant,
        tell: &mut dyn FnMut(&mut Outbox, Sent),
    ) -> RelayServed {
        let mut left = TURN;
        while self.readable && left > 0 && outbox.has_room() {
            left -= 1;
            match recv(self.socket.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
                Ok(count) => {
                    self.active = now;
                    self.answered = true;
                    match deliver(flow, link, outbox, &scratch[..count]) {
                        Ok(payload) => self.received += payload as u64,
                        Err(cause) => tell(outbox, Sent::No(cause)),
                    }
                }
                Err(Errno::EAGAIN) => self.readable = false,
                Err(error) => {
                    if let Some(refusal) = refusal(error) {
                        tell(outbox, Sent::Refused(refusal));
                    }
                }
            }
        }
        if self.readable {
            return RelayServed::MayGoOn;
        }
        let end = self.active + if self.answered { BOTH_WAYS } else { ONE_WAY };
        if now >= end { RelayServed::Expired } else { RelayServed::Waits(end) }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Adds the frame with what the destination has sent. Returns the bytes of its payload.
fn deliver(flow: &Flow, link: Link, outbox: &mut Outbox, message: &[u8]) -> Result<usize, Dropped> {
    let (source, destination) = (flow.destination.ip(), flow.source.ip());
    let route = Route { mac: link.mac, source, destination };
    if flow.transport == Transport::Icmp {
        return icmp::deliver(flow, route, link.mtu, outbox, message);
    }
    let ports = (flow.destination.port(), flow.source.port());
    if udp_frame(outbox, route, ports, message, link.mtu) {
        Ok(message.len())
    } else {
        Err(Dropped::TooBig)
    }
}

/// Adds the frame with an answer of the resolver.
pub(crate) fn answer(flow: &Flow, link: Link, outbox: &mut Outbox, message: &[u8]) -> Sent {
    match deliver(flow, link, outbox, message) {
        Ok(_) => Sent::Yes,
        Err(cause) => Sent::No(cause),
    }
}

fn refusal(error: Errno) -> Option<Refusal> {
    match error {
        Errno::ECONNREFUSED => Some(Refusal::Port),
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => Some(Refusal::Host),
        Errno::ENETUNREACH | Errno::ENETDOWN => Some(Refusal::Network),
        Errno::EACCES | Errno::EPERM => Some(Refusal::Prohibited),
        _ => None,
    }
}
