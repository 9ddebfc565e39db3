//! Echo requests to the outside, through the sockets that Linux gives to anybody in
//! `net.ipv4.ping_group_range`: they carry echo and nothing else, and have identifiers of their own.
//!
//! Read: RFC 792, RFC 4443 4, icmp(7).

use crate::event::Dropped;
use crate::flow::Flow;
use crate::gateway::echo_word;
use crate::wire::{Outbox, Route, icmp_frame};

const HEADER: usize = 8;
const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// The message for the host's socket, which fills in sum and identifier.
pub(crate) fn request(v6: bool, sequence: u16, data: &[u8]) -> Vec<u8> {
    let kind = if v6 { REQUEST_V6 } else { REQUEST_V4 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend_from_slice(&echo_word(0, sequence));
    message.extend_from_slice(data);
    message
}

/// Adds the frame with a reply. The identifier of the guest's requests stands in its port.
pub(crate) fn deliver(
    flow: &Flow,
    route: Route,
    mtu: u16,
    outbox: &mut Outbox,
    message: &[u8],
) -> Result<usize, Dropped> {
    let (header, data) = message.split_first_chunk::<HEADER>().ok_or(Dropped::Malformed)?;
    let (kind, ip_header) = if route.source.is_ipv4() { (REPLY_V4, 20) } else { (REPLY_V6, 40) };
    if header[0] != kind {
        return Err(Dropped::UnsupportedProtocol);
    }
    if ip_header + message.len() > usize::from(mtu) {
        return Err(Dropped::TooBig);
    }
    let sequence = u16::from_be_bytes([header[6], header[7]]);
    let word = echo_word(flow.source.port(), sequence);
    icmp_frame(outbox, route, (kind, 0, word), data);
    Ok(data.len())
}
