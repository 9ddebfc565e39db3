//! A network for one guest, in user space: frames in, flows decided one by one, host sockets out.
//!
//! ```text
//! frame socket, TAP ──► device ──► wire ──┬─► gateway: ARP, NDP, DHCP, echo
//!                                         └─► flow ──► policy ──► egress ──► host socket
//!                                               ├─► tcp  (relay, or an Interceptor or Resolver)
//!                                               ├─► udp  (relay, or a Resolver)
//!                                               └─► icmp (echo through a ping socket)
//! ```
//!
//! The other way round, [`GuestPorts`] connects the host with ports of the guest.
//!
//! Nothing leaves unless the [`Policy`] accepted the flow, which it is asked about once. Frames are
//! hostile: [`wire`] checks each once, into types that cannot be wrong after. Everything is bounded,
//! and nothing is dropped without being counted.
//!
//! A leaf: knows neither gRPC nor a VMM nor any other crate of ours.

mod address;
pub mod device;
pub mod dns;
mod egress;
mod error;
mod event;
mod flow;
mod gateway;
pub mod http;
mod icmp;
mod link;
pub mod names;
mod observer;
pub mod policy;
mod service;
mod stack;
mod stream;
mod sys;
mod tcp;
pub mod tls;
mod udp;
pub mod wire;

pub use address::{AddressClass, Cidr, InvalidCidr, canonical};
pub use egress::{DialError, Egress, EgressOptions};
pub use error::Error;
pub use event::{DenyReason, Dropped, Event, FlowEnd, Observer};
pub use flow::{Flow, FlowId, Origin, Transport};
pub use link::{
    GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, GUEST_V4, GUEST_V6, HOST_V4, HOST_V6, PREFIX_V4,
    PREFIX_V6, is_gateway, is_host,
};
pub use policy::{Decision, Grants, Policy};
pub use service::{Intercepted, Interceptor, Resolver};
pub use stack::{Config, ConnectGuestError, GuestPorts, Limits, Meter, Published, Stack, Stats};
pub use stream::GuestStream;
