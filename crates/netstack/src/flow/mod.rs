//! Flows: what they are called, and the table that holds them.

mod description;

pub use description::{Flow, FlowId, Transport};
