//! The whole stack between real Linux sockets: a guest in a network namespace of its own, behind a
//! TAP device, and servers on the host's loopback. The namespace has no name and goes with its last
//! thread. Skipped where none can be made.

mod clients;
mod conformance;
mod daemon;
mod grpc;
mod guest;
mod lane;
mod nginx;
mod paper;
mod ping;
mod ports;
mod relayed;
#[path = "../frames/servers.rs"]
mod servers;
mod services;
mod sys;
mod tcp;
mod udp;
mod weather;
