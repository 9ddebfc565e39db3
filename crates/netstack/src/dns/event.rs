//! What became of a query.

use std::net::IpAddr;

use crate::flow::FlowId;

/// One query, answered or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The flow it came in.
    pub flow: FlowId,
    /// The name, as asked.
    pub name: String,
    /// The record type: `A`, `TYPE65280`.
    pub record_type: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered {
        /// Response code: `No Error`, `Non-Existent Domain`.
        code: String,
        /// Whether no server had to be asked.
        cached: bool,
        /// Addresses that became trusted.
        addresses: Vec<IpAddr>,
    },
    /// The gate or a limit refused it.
    Refused {
        /// Why.
        reason: String,
    },
    /// No server gave an answer that can be used.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Is told what became of each query. Must not block.
pub type Observer = crate::observer::Observer<Event>;
