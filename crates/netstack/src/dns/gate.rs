//! The question asked before a query goes anywhere.

use async_trait::async_trait;

use crate::flow::Flow;

/// What the guest wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name as the guest spelled it, absolute, with its last dot; odd bytes are escaped.
    pub name: String,
    /// The record type: `A`, `HTTPS`, `TYPE65280`.
    pub record_type: String,
}

/// An answer to "may this be asked?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admit,
    /// It may not: the guest is told REFUSED.
    Refuse {
        /// For the event.
        reason: String,
    },
}

/// Decides about single queries of a flow that the policy has accepted already.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Whether this may be asked. No answer before the deadline is a refusal.
    async fn admit(&self, flow: &Flow, question: &Question) -> Admission;
}

/// Lets every query through.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Gate for AdmitAll {
    async fn admit(&self, _flow: &Flow, _question: &Question) -> Admission {
        Admission::Admit
    }
}
