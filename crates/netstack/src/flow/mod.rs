//! Flows: what they are called, and the table that holds them.

mod description;
mod table;
#[cfg(test)]
mod tests;
mod timers;

pub use description::{Flow, FlowId, Origin, Transport};
pub(crate) use table::{Key, Table};
pub(crate) use timers::Timers;
