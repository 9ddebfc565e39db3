//! Moving bytes, ends and resets between the guest and the upstream.

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use super::connection::Connection;
use super::phy::Phy;
use super::tombstone::Tombstone;
use super::upstream::Moved;
use crate::event::FlowEnd;
use crate::wire::Outbox;

/// Bytes that one connection may move before others have their turn.
const TURN: u64 = 1 << 20;
/// How long the guest may leave something unacknowledged: about what Linux allows its peers.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// How long it may leave a handshake or an end unacknowledged. Smoltcp 0.14 does not repeat a lost
/// FIN that three duplicate acknowledgements came for: such a connection ends here.
const SILENCE_AT_ENDS: Duration = Duration::from_secs(120);
/// smoltcp clears a socket that has been in TIME-WAIT for 10 s. One whose bytes the upstream has
/// not taken yet is not to be polled then.
const LINGER: Duration = Duration::from_secs(5);

/// What became of a connection in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// It waits: for the guest, for the upstream, or for this time.
    Waits(Option<Instant>),
    /// It could go on.
    MayGoOn,
    /// It is over.
    Over(FlowEnd, Option<Tombstone>),
}

impl Connection {
    /// Moves what can be moved.
    pub(crate) fn serve(&mut self, outbox: &mut Outbox, now: Instant) -> Served {
        let first = self.sent + self.received;
        loop {
            self.give_up_if_silent(now);
            self.poll(outbox, now);
            if let Some(over) = self.over() {
                return over;
            }
            if !outbox.has_room() {
                return Served::MayGoOn;
            }
            let progress = self.aborted.is_none()
                && (self.push_upstream() | self.pull_upstream() | self.carry_ends());
            if !progress {
                return Served::Waits(self.next(now));
            }
            if self.sent + self.received - first >= TURN {
                return Served::MayGoOn;
            }
        }
    }

    /// Resets both sides.
    pub(crate) fn abort(&mut self, end: FlowEnd) {
        if self.aborted.is_none() && !self.guest_reset {
            self.aborted = Some(end);
            self.socket().abort();
        }
    }

    fn poll(&mut self, outbox: &mut Outbox, now: Instant) {
        let stale = self.socket().state() == State::TimeWait && now > self.heard + LINGER;
        if stale && self.socket().can_recv() {
            return;
        }
        let mut phy = Phy {
            packet: None,
            outbox,
            last: &mut self.last,
            guest: self.guest.ip(),
            destination: self.destination.ip(),
            mac: self.link.mac,
            mtu: self.link.mtu,
            offload: self.link.offload,
        };
        while self.iface.poll_egress(now, &mut phy, self.socket.set()) != PollResult::None {}
    }

    fn over(&mut self) -> Option<Served> {
        if self.guest_reset {
            self.upstream.reset();
            return Some(Served::Over(FlowEnd::GuestReset, None));
        }
        let state = self.socket().state();
        if let Some(end) = self.aborted {
            // The reset has gone out when nobody is left to send it to.
            let told = self.socket().remote_endpoint().is_none();
            if !told {
                return None;
            }
            self.upstream.reset();
            return Some(Served::Over(end, None));
        }
        let drained = self.guest_done && !self.socket().can_recv();
        match state {
            State::TimeWait if drained => {
                let (sequence, acknowledged) = (self.last.sequence, self.last.acknowledged);
                let stone = Tombstone { sequence, acknowledged };
                Some(Served::Over(FlowEnd::Finished, Some(stone)))
            }
            State::Closed if drained => Some(Served::Over(FlowEnd::Finished, None)),
            _ => None,
        }
    }

    fn push_upstream(&mut self) -> bool {
        let mut progress = false;
        while self.writable || self.deaf {
            let (upstream, deaf) = (&self.upstream, self.deaf);
            let socket = self.socket.get();
            if !socket.can_recv() {
                break;
            }
            let write = |bytes: &mut [u8]| {
                let written = if deaf { Moved::Ended } else { upstream.write(bytes) };
                let taken = match written {
                    Moved::Bytes(count) => count,
                    Moved::Ended => bytes.len(),
                    Moved::NotNow | Moved::Reset => 0,
                };
                (taken, written)
            };
            match socket.recv(write) {
                Ok(Moved::Bytes(count)) => self.sent += count as u64,
                Ok(Moved::NotNow) => {
                    self.writable = false;
                    break;
                }
                // As when a socket is closed: what was sent to the guest is delivered, and it is
                // reset if it sends on.
                Ok(Moved::Ended) => {
                    self.deaf = true;
                    if self.upstream_done && self.socket().send_queue() == 0 {
                        self.abort(FlowEnd::UpstreamReset);
                    }
                }
                Ok(Moved::Reset) => self.abort(FlowEnd::UpstreamReset),
                Err(_) => break,
            }
            progress = true;
            if self.aborted.is_some() {
                break;
            }
        }
        progress
    }

    fn pull_upstream(&mut self) -> bool {
        let mut progress = false;
        while self.readable && !self.upstream_done && self.aborted.is_none() {
            let upstream = &self.upstream;
            let socket = self.socket.get();
            if !socket.can_send() {
                break;
            }
            let read = |room: &mut [u8]| match upstream.read(room) {
                Moved::Bytes(count) => (count, (Moved::Bytes(count), count < room.len())),
                other => (0, (other, false)),
            };
            match socket.send(read) {
                Ok((Moved::Bytes(count), short)) => {
                    self.received += count as u64;
                    // Edge-triggered: after a short read more will be told of, unless the end has
                    // been told of already.
                    self.readable = !short || self.hung_up;
                }
                Ok((Moved::NotNow, _)) => {
                    self.readable = false;
                    break;
                }
                Ok((Moved::Ended, _)) => {
                    self.upstream_done = true;
                    self.socket().close();
                }
                Ok((Moved::Reset, _)) => self.abort(FlowEnd::UpstreamReset),
                Err(_) => break,
            }
            progress = true;
        }
        progress
    }

    /// Tells the upstream that the guest is done, once all before has been delivered.
    fn carry_ends(&mut self) -> bool {
        let state = self.socket().state();
        let ended = matches!(
            state,
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait | State::Closed
        );
        if self.guest_done || !ended || self.aborted.is_some() || self.socket().can_recv() {
            return false;
        }
        self.guest_done = true;
        self.upstream.finish();
        true
    }

    fn silence(&mut self) -> Option<Duration> {
        let socket = self.socket();
        match socket.state() {
            State::SynReceived | State::FinWait1 | State::Closing | State::LastAck
                if socket.send_queue() == 0 =>
            {
                Some(SILENCE_AT_ENDS)
            }
            _ if socket.send_queue() > 0 => Some(SILENCE),
            _ => None,
        }
    }

    fn give_up_if_silent(&mut self, now: Instant) {
        if self.give_up_at(now).is_some_and(|at| now >= at) {
            self.abort(FlowEnd::Expired);
        }
    }

    /// When the guest has been silent for too long.
    fn give_up_at(&mut self, now: Instant) -> Option<Instant> {
        let Some(limit) = self.silence() else {
            self.owed = None;
            return None;
        };
        let since = *self.owed.get_or_insert(now);
        Some(since.max(self.heard) + limit)
    }

    fn next(&mut self, now: Instant) -> Option<Instant> {
        let give_up = self.give_up_at(now);
        let stale = self.socket().state() == State::TimeWait;
        // In TIME-WAIT only the upstream is waited for.
        let poll = if stale { None } else { self.iface.poll_at(now, self.socket.set()) };
        match (give_up, poll) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}
