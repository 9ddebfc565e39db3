//! The whole helper but for its process: a client on one end of a socket, `server::run` on the
//! other, and behind it an engine and a guest that the tests play.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod boot;
#[path = "../support/calls.rs"]
mod calls;
#[path = "../../../netstack/tests/support/card.rs"]
#[allow(dead_code, reason = "shared with the tests of netstack")]
mod card;
mod client;
mod debug;
mod engine;
mod file_client;
mod file_requests;
mod filesystem;
mod guest;
mod hostile;
mod metrics;
mod mounts;
#[path = "../../../netstack/tests/frames/guest.rs"]
#[allow(dead_code, reason = "shared with the tests of netstack")]
mod net_guest;
mod network;
mod network_client;
mod network_policy;
mod network_ports;
mod network_requests;
mod run;
#[path = "../../../netstack/tests/frames/servers.rs"]
mod servers;
mod shutdown;
mod watch;
