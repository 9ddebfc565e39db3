//! The virtual link: who has which address on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::EthernetAddress;

/// The gateway: router, resolver, and nothing else.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
/// Stands for the host's 127.0.0.1.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The guest.
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The gateway: router, resolver, and nothing else.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// Stands for the host's `::1`.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// The guest.
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x15);
/// The gateway's link-local address: router advertisements must come from one (RFC 4861, 6.1.2).
pub(crate) const GATEWAY_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Length of the network's prefix.
pub const PREFIX_V4: u8 = 24;
/// Length of the network's prefix.
pub const PREFIX_V6: u8 = 64;
/// Where the resolver listens.
pub(crate) const RESOLVER_PORT: u16 = 53;

/// Hardware address of the gateway and of the host's stand-in; locally administered.
pub const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x02, 0x6c, 0x62, 0x00, 0x00, 0x01]);

/// Whether the address stands for the host's loopback.
#[must_use]
pub fn is_host(address: IpAddr) -> bool {
    address == IpAddr::V4(HOST_V4) || address == IpAddr::V6(HOST_V6)
}

/// Whether the address is that of all on the virtual link.
pub(crate) fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets() == [10, 0, 2, 255])
}

/// Whether the address is the gateway's.
#[must_use]
pub fn is_gateway(address: IpAddr) -> bool {
    address == IpAddr::V4(GATEWAY_V4)
        || address == IpAddr::V6(GATEWAY_V6)
        || address == IpAddr::V6(GATEWAY_LINK_LOCAL)
}

/// Whether the address lies in the virtual network: there is nobody there but those above.
pub(crate) fn is_on_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == GATEWAY_V4.octets()[..3],
        IpAddr::V6(address) => address.segments()[..4] == GATEWAY_V6.segments()[..4],
    }
}

/// The guest's address of the family of `other`.
pub(crate) fn guest_for(other: IpAddr) -> IpAddr {
    match other {
        IpAddr::V4(_) => GUEST_V4.into(),
        IpAddr::V6(_) => GUEST_V6.into(),
    }
}
