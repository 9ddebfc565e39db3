//! Frames, checked once: bytes become a [`Frame`] that cannot be wrong after, or a cause to drop.
//!
//! ```text
//! bytes ──► Frame ─┬─► Arp
//!                  └─► Packet ──► Tcp | Udp | Icmp4 | Icmp6     (sums and lengths are right)
//! ```
//!
//! Refused: fragments, extension headers, and what is addressed so that nobody can be meant.
//! Read: RFC 791, RFC 8200, RFC 9293 (options: 3.1, 3.2), RFC 768, RFC 792, RFC 4443.

mod build;
mod checksum;
mod parse;
mod tcp;
#[cfg(test)]
mod tests;

pub(crate) use build::{
    HOP_LIMIT, Offload, Outbox, Refusal, Route, VNET_HEADER, address_packet, arp_frame,
    fill_tcp_sum, icmp_frame, refusal_frame, tcp_frame, udp_frame,
};
pub(crate) use parse::is_for_many;
pub use parse::{Frame, Icmp4, Icmp6, Link, Packet, Payload, Udp};
pub use tcp::Segment;

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// The largest packet of the link: what 16 bits count, in whole units of eight.
pub const MTU_MAX: u16 = 65_520;
/// The smallest MTU that IPv6 allows (RFC 8200, 5).
pub const MTU_MIN: u16 = 1280;
/// The longest frame that is looked at. Segments that the guest leaves to the device to cut may be
/// as long as an IP packet can be.
pub const FRAME_MAX: usize = ETHERNET_HEADER + 65_535 + 40;

/// What of the checksums is known before they are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sums {
    /// Nothing: check them.
    #[default]
    Unknown,
    /// The device vouches for those of TCP and UDP, which may not have been filled in.
    Vouched,
}
