//! The Internet checksum (RFC 1071), over a pseudo-header and a payload.

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

/// Whether the sum inside `bytes` is right.
pub(super) fn holds(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    bytes: &[u8],
) -> bool {
    fold(pseudo_header(source, destination, protocol, bytes.len()) + sum(bytes)) == 0xffff
}

/// The sum of the pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1), not folded.
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: IpProtocol, length: usize) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sum(&source.octets()) + sum(&destination.octets())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            sum(&source.octets()) + sum(&destination.octets())
        }
        // No such packet can be parsed.
        _ => 0,
    };
    addresses + u64::from(u8::from(protocol)) + length as u64
}

/// The sum of the bytes as big-endian 16-bit numbers, in 32-bit steps: for up to 64 KiB it cannot
/// overflow, and the folded sum is the same.
fn sum(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(32);
    let mut lanes = [0_u64; 8];
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_be_bytes(*word));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut words = chunks.remainder().chunks_exact(2);
    for word in &mut words {
        total += u64::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(*last) << 8;
    }
    total
}

fn fold(mut total: u64) -> u64 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total
}

/// The sum to be written into `bytes`, whose own field for it is 0.
pub(super) fn of(source: IpAddr, destination: IpAddr, protocol: IpProtocol, bytes: &[u8]) -> u16 {
    !folded(pseudo_header(source, destination, protocol, bytes.len()) + sum(bytes))
}

/// The sum of `bytes` alone, for IPv4 headers and ICMP.
pub(super) fn of_plain(bytes: &[u8]) -> u16 {
    !folded(sum(bytes))
}

/// The sum of the pseudo-header alone, which a device completes.
pub(super) fn of_pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    length: usize,
) -> u16 {
    folded(pseudo_header(source, destination, protocol, length))
}

fn folded(total: u64) -> u16 {
    // Folding leaves 16 bits.
    u16::try_from(fold(total)).unwrap_or(u16::MAX)
}
