//! What kind of address an address is: the one home of these facts.
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190) and the
//! IPv6 address space registry. An IPv6 address that carries an IPv4 address (mapped, or translated
//! by the well-known prefix of RFC 6052) is judged by that.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::link;

#[cfg(test)]
mod tests;

/// The kinds of an address. Several may hold at once; `public_internet` excludes all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and becomes a field of its own in other languages"
)]
pub struct AddressClass {
    /// 127.0.0.0/8, `::1`.
    pub loopback: bool,
    /// RFC 1918, 100.64.0.0/10, unique local, and the old site-local addresses.
    pub private: bool,
    /// 169.254.0.0/16, `fe80::/10`.
    pub link_local: bool,
    /// 224.0.0.0/4, `ff00::/8`.
    pub multicast: bool,
    /// 255.255.255.255, or that of the guest's network.
    pub broadcast: bool,
    /// Set aside for documentation.
    pub documentation: bool,
    /// Unspecified, benchmarking, protocol assignments, future use, and all that is not assigned.
    pub reserved: bool,
    /// Anything else: reachable from everywhere.
    pub public_internet: bool,
    /// Stands for the host's loopback on the virtual link (10.0.2.2, `fd00::2`).
    pub host: bool,
}

impl AddressClass {
    /// The kinds of `address`.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let mut class = match judged(address) {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        };
        class.host = link::is_host(address);
        class.broadcast |= link::is_broadcast(address);
        class.public_internet = class == Self::default();
        class
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let within = |blocks: &[(u32, u8)]| {
            blocks.iter().any(|&(network, length)| {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                (address.to_bits() ^ network) & mask == 0
            })
        };
        Self {
            loopback: address.is_loopback(),
            private: within(&[
                (0x0a00_0000, 8),
                (0x6440_0000, 10),
                (0xac10_0000, 12),
                (0xc0a8_0000, 16),
            ]),
            link_local: address.is_link_local(),
            multicast: address.is_multicast(),
            broadcast: address.is_broadcast(),
            documentation: within(&[
                (0xc000_0200, 24),
                (0xc633_6400, 24),
                (0xcb00_7100, 24),
                (0xe9fc_0000, 24),
            ]),
            reserved: within(&[
                (0x0000_0000, 8),
                (0xc000_0000, 24),
                (0xc058_6300, 24),
                (0xc612_0000, 15),
                (0xf000_0000, 4),
            ]) && !matches!(address.octets(), [192, 0, 0, 9 | 10]),
            ..Self::default()
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let within = |blocks: &[Block]| blocks.iter().any(|block| block.contains(address));
        Self {
            loopback: address.is_loopback(),
            private: within(&[Block(0xfc00 << 112, 7), Block(0xfec0 << 112, 10), NAT64_LOCAL]),
            link_local: Block(0xfe80 << 112, 10).contains(address),
            multicast: address.is_multicast(),
            documentation: within(&[Block(0x2001_0db8 << 96, 32), Block(0x3fff << 112, 20)]),
            reserved: is_reserved_v6(address),
            ..Self::default()
        }
    }

    /// Why a literal address of this kind is never dialled, whatever the policy says.
    pub(crate) fn forbidden(self) -> Option<&'static str> {
        if self.host {
            None
        } else if self.loopback {
            Some("loopback addresses are never dialled")
        } else if self.multicast {
            Some("multicast is not carried")
        } else if self.broadcast {
            Some("broadcast is not carried")
        } else {
            None
        }
    }
}

/// Leading bits of IPv6 addresses, and how many.
struct Block(u128, u8);

/// Local-use translation, RFC 8215.
const NAT64_LOCAL: Block = Block(0x0064_ff9b_0001 << 80, 48);
/// Translation by the well-known prefix, RFC 6052.
const NAT64: Block = Block(0x0064_ff9b << 96, 96);

impl Block {
    fn contains(&self, address: Ipv6Addr) -> bool {
        let mask = u128::MAX.checked_shl(128 - u32::from(self.1)).unwrap_or(0);
        (address.to_bits() ^ self.0) & mask == 0
    }
}

fn is_reserved_v6(address: Ipv6Addr) -> bool {
    let within = |blocks: &[Block]| blocks.iter().any(|block| block.contains(address));
    // Parts of 2001::/23 that are in use.
    let assigned = within(&[
        Block(0x2001_0001_0000_0000_0000_0000_0000_0001, 128),
        Block(0x2001_0001_0000_0000_0000_0000_0000_0002, 128),
        Block(0x2001_0001_0000_0000_0000_0000_0000_0003, 128),
        Block(0x2001_0003 << 96, 32),
        Block(0x2001_0004_0112 << 80, 48),
        Block(0x2001_0020 << 96, 28),
        Block(0x2001_0030 << 96, 28),
    ]);
    let protocols = Block(0x2001 << 112, 23).contains(address) && !assigned;
    let six_to_four = Block(0x2002 << 112, 16).contains(address);
    let elsewhere = !within(&[
        Block(0x2000 << 112, 3),
        Block(0xfc00 << 112, 7),
        Block(0xfe80 << 112, 10),
        Block(0xfec0 << 112, 10),
        Block(0xff00 << 112, 8),
        NAT64_LOCAL,
    ]) && !address.is_loopback();
    protocols || six_to_four || elsewhere
}

/// The address without the IPv6 wrapping of an IPv4-mapped address.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The address whose kind counts.
fn judged(address: IpAddr) -> IpAddr {
    match canonical(address) {
        IpAddr::V6(v6) if NAT64.contains(v6) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

/// A block of addresses, `10.0.0.0/8`; a bare address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

impl Cidr {
    /// Whether the address lies in the block. Families do not mix.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, canonical(address)) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                Block(network.to_bits(), self.length).contains(address)
            }
            _ => false,
        }
    }

    /// Whether all of the block is link-local.
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        let least = if self.network.is_ipv4() { 16 } else { 10 };
        self.length >= least && AddressClass::of(self.network).link_local
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let network = canonical(address);
        Self { network, length: if network.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// A text that is not a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an address or a block of addresses such as 10.0.0.0/8")]
pub struct InvalidCidr(String);

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let Some((network, length)) = text.split_once('/') else {
            return text.parse::<IpAddr>().map(Self::from).map_err(|_| invalid());
        };
        let network: IpAddr = network.parse().map_err(|_| invalid())?;
        let plain = !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit());
        let length: u8 = length.parse().map_err(|_| invalid())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let block = Self { network, length };
        // Host bits that are set are a mistake: did they mean the host or the network?
        let whole = match network {
            IpAddr::V4(v4) => v4.to_bits().checked_shl(length.into()).unwrap_or(0) == 0,
            IpAddr::V6(v6) => v6.to_bits().checked_shl(length.into()).unwrap_or(0) == 0,
        };
        if plain && length <= most && whole { Ok(block) } else { Err(invalid()) }
    }
}
