//! TCP: one smoltcp interface with one socket for each connection, between guest and upstream.
//!
//! ```text
//! SYN ──► parked ──► upstream dialled ──► Connection ──► TIME-WAIT ──► Tombstones
//!            │              │ refused         │ guest RST: upstream is reset too
//!            ▼ denied       ▼                 ▼ upstream RST: the guest is reset
//!           RST        RST, ICMP error
//!
//! a client of the host ──► our SYN ──► SYN-ACK ──► Connection
//!                                  └─► RST, silence: the client is reset
//! ```
//!
//! smoltcp looks at every socket of a set for each packet, hence one set a connection: a packet finds
//! its connection in the flow table. Read: RFC 9293, RFC 7323.

mod connection;
mod phy;
mod relay;
mod tombstone;
mod upstream;

pub(crate) use connection::{Connection, Dialled, Link};
pub(crate) use relay::Served;
pub(crate) use tombstone::Tombstones;
pub(crate) use upstream::Upstream;
