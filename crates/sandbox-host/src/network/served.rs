//! A policy that the client serves: every question of it, with its deadline.

use std::sync::Arc;
use std::time::Duration;

use netstack::{DenyReason, FlowId};
use protocol::v1::network_call::Call;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::answer::{Expected, Gathering, Outcome};
use super::event::short;
use super::link::Link;
use super::report::Reporter;
use crate::callback::{CallbackStream, Gone};

/// The callbacks of one policy. When nothing uses them any more, their stream ends.
pub(super) struct Served {
    link: Arc<Link>,
    deadline: Duration,
    reporter: Arc<Reporter>,
    _room: OwnedSemaphorePermit,
}

/// Why there is no verdict. What was asked about is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The deadline passed.
    Deadline(Duration),
    /// The callback failed.
    Failed(String),
    /// The answer cannot be.
    Wrong(String),
    /// Nobody is there to answer.
    Gone,
}

impl Served {
    /// Of this stream. What its client does wrong is told.
    pub(super) fn new(
        link: Arc<Link>,
        deadline: Duration,
        reporter: Arc<Reporter>,
        room: OwnedSemaphorePermit,
    ) -> Arc<Self> {
        let told = Arc::clone(&reporter);
        link.exchange.tell_to(move |_, message| {
            told.callback_failed(format!("Network policy: {message}"));
        });
        Arc::new(Self { link, deadline, reporter, _room: room })
    }

    /// Asks; a fault is told, with what the question was about.
    pub(super) async fn ask(
        &self,
        about: impl FnOnce() -> String,
        call: Call,
        expected: Expected,
    ) -> Result<Outcome, Fault> {
        let asked = self.link.exchange.ask(call, Gathering(expected), 0);
        let fault = match timeout(self.deadline, asked).await {
            Ok(Ok(Outcome::Failed(problem))) => Fault::Failed(problem),
            Ok(Ok(Outcome::Wrong(problem))) => Fault::Wrong(problem),
            Ok(Ok(outcome)) => return Ok(outcome),
            // That it went is told once.
            Ok(Err(Gone)) => return Err(Fault::Gone),
            Err(_) => Fault::Deadline(self.deadline),
        };
        let about = short(about());
        self.reporter.callback_failed(format!("Network policy, asked about {about}: {fault}"));
        Err(fault)
    }

    /// The client's interest in a flow, until what is returned is dropped.
    pub(super) fn interest(self: &Arc<Self>, flow: FlowId) -> Interest {
        Interest { served: Arc::clone(self), flow, over: false }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.link.end(None);
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("link", &self.link).finish_non_exhaustive()
    }
}

/// What the client may keep of a flow. When this is dropped, it is told that it need not any more:
/// also when nobody could wait for its decision, which may have named a middleware.
#[derive(Debug)]
pub(super) struct Interest {
    served: Arc<Served>,
    flow: FlowId,
    over: bool,
}

impl Interest {
    /// The client has nothing to keep.
    pub(super) fn none(mut self) {
        self.over = true;
    }

    pub(super) fn served(&self) -> &Served {
        &self.served
    }

    pub(super) fn flow(&self) -> FlowId {
        self.flow
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if !self.over {
            self.served.link.released(self.flow.0);
        }
    }
}

impl Fault {
    /// As the reason of a denial.
    pub(super) fn reason(&self) -> DenyReason {
        match self {
            Self::Deadline(_) => DenyReason::Deadline,
            _ => DenyReason::PolicyFailed,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deadline(after) => write!(f, "it did not answer within {} ms", after.as_millis()),
            Self::Failed(problem) => write!(f, "it failed: {problem}"),
            Self::Wrong(problem) => f.write_str(problem),
            Self::Gone => f.write_str("the program that decides does not answer any more"),
        }
    }
}
