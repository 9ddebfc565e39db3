//! The guest's network: netstack behind a frame socket, and the client's policy in front of it.
//!
//! ```text
//! guest ─► engine ─► frame socket ─► netstack ─► rules ─► StreamPolicy ─► Served ─► Link ⇄ client
//!                                       │          └─► resolvers, interception ─► StreamMiddleware ┘
//! published ports: client of the host ─► Ports ─► netstack ─► guest
//! events: netstack, DNS, HTTP ─► event ─► Reporter ─► journal
//! ```
//! - [`answer`]: what a client answers, checked.
//! - [`link`]: the stream that decides.
//! - [`Network`]: the network of a VM; [`Control`] is what can be done to it meanwhile.
//!
//! Refuses: whatever no rule and no answer allows. A callback that throws, hangs, lies or is gone
//! denies what it was asked about, and nobody else waits for it. A stack that fails leaves the VM
//! without a network, which is a warning; the VM goes on.

pub mod answer;
mod build;
mod control;
mod event;
mod flow;
mod intercepted;
pub mod link;
mod middleware;
mod policy;
mod ports;
mod report;
mod resolvers;
mod running;
mod served;

pub use control::Control;
pub use ports::Listening;
pub use running::Network;

/// Streams of policies that are attached.
pub type Registry = crate::callback::Registry<link::Link>;
