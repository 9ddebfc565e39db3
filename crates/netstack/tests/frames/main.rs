//! The whole crate, from frames to servers: a guest that speaks through a frame socket, the gateway's
//! resolver in front of a name server, and interception in front of origins. The servers listen on the
//! host's loopback, the guest is smoltcp; no privilege and no tool is needed.

#[path = "../support/card.rs"]
mod card;
mod guest;
mod hostile;
mod names;
mod servers;
