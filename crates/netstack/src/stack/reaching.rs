//! Connections that the policy accepts without being waited for: dialled by the data path itself, which
//! spares two changes of thread for each.
//!
//! ```text
//! SYN ──► settle ──► Accept ──► Reaching ──► connected: opened as if the broker had dialled
//!            │                     └─► refused, late: told as if the broker had
//!            └─► anything else, or no turn: a Question
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use nix::sys::epoll::EpollFlags;
use smoltcp::time::Instant;

use super::core::{Core, Entry, State};
use crate::egress::{Begun, DialError};
use crate::event::DenyReason;
use crate::flow::{Flow, FlowId};
use crate::policy::{Answer, Decision, Grants, Opened};

/// A connection that is being dialled.
pub(crate) struct Reaching {
    /// The SYN that waits for it.
    pub(super) syn: Box<[u8]>,
    begun: Begun,
    /// Whether there is an outcome.
    ready: bool,
    until: Instant,
}

impl Reaching {
    pub(super) fn ready(&mut self, flags: EpollFlags) {
        let outcome = EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        self.ready |= flags.intersects(outcome);
    }
}

impl Core {
    /// The verdict on a flow, if the policy has one at once.
    pub(super) fn settle(&self, flow: &Flow) -> Option<Decision> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner).clone();
        let settled = catch_unwind(AssertUnwindSafe(|| policy.settle(flow)));
        settled.unwrap_or_else(|_| Some(Decision::deny("the policy panicked")))
    }

    /// Dials for a connection that has been accepted. `false`: somebody else has to.
    pub(super) fn reach(&mut self, flow: &Flow, grants: Grants, now: Instant) -> bool {
        let id = flow.id;
        let begun = match self.egress.begin(flow.destination, grants) {
            Ok(Some(begun)) => begun,
            Ok(None) => return false,
            Err(error) => {
                self.not_reached(id, error, now);
                return true;
            }
        };
        if let Err(error) = Self::watch(&self.epoll, id, &begun) {
            self.not_reached(id, DialError::Io(error.into()), now);
            return true;
        }
        let until = now + self.egress.connect_timeout().into();
        let Some(Entry { state, .. }) = self.table.get_mut(id) else { return true };
        if let State::Syn(syn) = state {
            let syn = std::mem::take(syn);
            *state = State::Reaching(Box::new(Reaching { syn, begun, ready: false, until }));
        }
        self.timers.set(id, Some(until));
        true
    }

    /// Looks whether there is an outcome.
    pub(super) fn serve_reaching(&mut self, id: FlowId, now: Instant) {
        let Some(Entry { state, .. }) = self.table.get_mut(id) else { return };
        let State::Reaching(reaching) = state else { return };
        if !reaching.ready && now < reaching.until {
            return self.timers.set(id, Some(reaching.until));
        }
        let syn = std::mem::take(&mut reaching.syn);
        let State::Reaching(reaching) = std::mem::replace(state, State::Syn(syn)) else { return };
        if !reaching.ready {
            return self.not_reached(id, DialError::TimedOut, now);
        }
        // It is watched anew as what it becomes. It was added, so it can be taken out.
        let _ = self.epoll.delete(&reaching.begun);
        match reaching.begun.outcome() {
            Ok(socket) => self.answer(Answer::Opened(id, Opened::Socket(socket)), now),
            Err(error) => self.not_reached(id, DialError::Io(error), now),
        }
    }

    fn not_reached(&mut self, id: FlowId, error: DialError, now: Instant) {
        let answer = match error {
            DialError::Forbidden(why) => Answer::Denied(id, DenyReason::Address, why.to_owned()),
            error => Answer::Failed(id, error),
        };
        self.answer(answer, now);
    }
}
