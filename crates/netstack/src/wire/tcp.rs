//! TCP segments, checked once.

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, TcpPacket};

use super::{Sums, checksum};
use crate::event::Dropped;

/// The smallest segment size that a peer may ask for: what Linux also takes as its least. Less
/// would be a way to make one byte cost one packet.
const MSS_MIN: u16 = 48;

const KIND_END: u8 = 0;
const KIND_NOP: u8 = 1;
const KIND_MSS: u8 = 2;
const KIND_WINDOW_SCALE: u8 = 3;
const KIND_SACK_PERMITTED: u8 = 4;
const KIND_SACK: u8 = 5;
const KIND_TIMESTAMP: u8 = 8;

/// A checked TCP segment: no contradictory flags, options whose lengths are right, ports that are
/// not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are the flags of a header")]
pub struct Segment<'a> {
    /// Port of the sender.
    pub source_port: u16,
    /// Port of the receiver.
    pub destination_port: u16,
    /// Number of the first byte, or of the SYN.
    pub sequence: u32,
    /// Number of the byte that the sender expects next; 0 without `ack`.
    pub acknowledged: u32,
    /// Opens a connection.
    pub syn: bool,
    /// Ends the sender's half.
    pub fin: bool,
    /// Ends the connection.
    pub rst: bool,
    /// `acknowledged` counts.
    pub ack: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    pub(super) fn parse(
        source: IpAddr,
        destination: IpAddr,
        bytes: &'a [u8],
        sums: Sums,
    ) -> Result<Self, Dropped> {
        let packet = TcpPacket::new_checked(bytes).map_err(|_| Dropped::Malformed)?;
        if sums == Sums::Unknown && !checksum::holds(source, destination, IpProtocol::Tcp, bytes) {
            return Err(Dropped::Checksum);
        }
        let (source_port, destination_port) = (packet.src_port(), packet.dst_port());
        let (syn, fin, rst, ack) = (packet.syn(), packet.fin(), packet.rst(), packet.ack());
        let contradictory = [syn, fin, rst].into_iter().filter(|&flag| flag).count() > 1;
        if source_port == 0 || destination_port == 0 || contradictory {
            return Err(Dropped::Malformed);
        }
        check_options(packet.options()).ok_or(Dropped::TcpOptions)?;
        Ok(Self {
            source_port,
            destination_port,
            sequence: packet.seq_number().0.cast_unsigned(),
            acknowledged: if ack { packet.ack_number().0.cast_unsigned() } else { 0 },
            syn,
            fin,
            rst,
            ack,
            payload: packet.payload(),
        })
    }

    /// Sequence numbers that the segment takes up.
    #[must_use]
    pub fn length(&self) -> u32 {
        // A segment is shorter than 64 KiB.
        let payload = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        payload.wrapping_add(u32::from(self.syn)).wrapping_add(u32::from(self.fin))
    }
}

/// Whether each option is as long as its kind is (RFC 9293, RFC 7323, RFC 2018).
fn check_options(mut options: &[u8]) -> Option<()> {
    loop {
        let (kind, length) = match *options {
            [] | [KIND_END, ..] => return Some(()),
            [KIND_NOP, ..] => {
                options = &options[1..];
                continue;
            }
            [kind, length, ..] => (kind, usize::from(length)),
            [_] => return None,
        };
        let fits = match kind {
            KIND_MSS => length == 4,
            KIND_WINDOW_SCALE => length == 3,
            KIND_SACK_PERMITTED => length == 2,
            KIND_SACK => matches!(length, 10 | 18 | 26 | 34),
            KIND_TIMESTAMP => length == 10,
            _ => length >= 2,
        };
        let option = options.get(..length).filter(|_| fits)?;
        if let [KIND_MSS, _, high, low] = *option
            && u16::from_be_bytes([high, low]) < MSS_MIN
        {
            return None;
        }
        options = &options[length..];
    }
}
