//! Who may go where: the question asked once for each flow. Where the answer needs no thought
//! ([`Policy::settle`]) nothing is parked, and the data path dials at once.
//!
//! ```text
//! first packet ──► parked ──► Policy::decide ──► Accept, Intercept: dial ──► open
//!                                │ deadline, panic        │ refused ──► reset, ICMP error
//!                                ▼                        ▼
//!                              denied: TCP reset, ICMP "administratively prohibited"
//! ```

mod broker;
mod rules;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub(crate) use broker::{Answer, Broker, BrokerOptions, CurrentPolicy, Opened, Question};
pub use rules::{
    Allow, DnsService, HostPattern, HttpService, InvalidHost, QUIC, Rule, Rules, Services,
    TrustedNames,
};

use crate::event::DenyReason;
use crate::flow::Flow;
use crate::service::{Interceptor, Resolver};

/// Decides about flows. Asked exactly once for each; other flows go on meanwhile. An answer that
/// does not come before the deadline, or a panic, is a denial.
#[async_trait]
pub trait Policy: Send + Sync + 'static {
    /// The verdict on one new flow. Dropped when the guest has given the flow up.
    async fn decide(&self, flow: &Flow) -> Decision;

    /// The verdict where it needs no thought, asked before [`Policy::decide`], which is not asked
    /// then. Called on the data path: it must not wait.
    fn settle(&self, _flow: &Flow) -> Option<Decision> {
        None
    }
}

/// A verdict.
#[derive(Clone)]
pub enum Decision {
    /// Relay as it is.
    Accept(Grants),
    /// Refuse: a reset for TCP, an ICMP error for the rest.
    Deny {
        /// For the event.
        reason: String,
    },
    /// Refuse in the same way, because there is no verdict: the policy did not answer in time, or
    /// failed.
    Fail {
        /// [`DenyReason::Deadline`] or [`DenyReason::PolicyFailed`].
        reason: DenyReason,
        /// For the event.
        detail: String,
    },
    /// Dial the destination, then hand both halves over. TCP only.
    Intercept(Arc<dyn Interceptor>, Grants),
    /// Let the resolver answer. Only for flows to the gateway's port 53.
    Resolve(Arc<dyn Resolver>),
}

impl Decision {
    /// A denial.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny { reason: reason.into() }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept(grants) => f.debug_tuple("Accept").field(grants).finish(),
            Self::Deny { reason } => f.debug_struct("Deny").field("reason", reason).finish(),
            Self::Fail { reason, detail } => {
                f.debug_struct("Fail").field("reason", reason).field("detail", detail).finish()
            }
            Self::Intercept(_, grants) => f.debug_tuple("Intercept").field(grants).finish(),
            Self::Resolve(_) => f.write_str("Resolve"),
        }
    }
}

/// What an acceptance covers beyond ordinary addresses. Loopback, unspecified, multicast and
/// broadcast addresses are never dialled, whatever is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Link-local addresses, among them the metadata services of clouds.
    pub link_local: bool,
}

/// A policy that refuses everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyAll;

#[async_trait]
impl Policy for DenyAll {
    async fn decide(&self, _flow: &Flow) -> Decision {
        Decision::deny("nothing is allowed")
    }

    fn settle(&self, _flow: &Flow) -> Option<Decision> {
        Some(Decision::deny("nothing is allowed"))
    }
}
