//! What a flow is, as policies and observers see it.

use std::fmt;
use std::net::SocketAddr;

use crate::address::AddressClass;
use crate::link::{self, RESOLVER_PORT};

/// Number of a flow, unique in the life of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub u64);

/// The protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// UDP datagrams between two endpoints.
    Udp,
    /// Echo requests with one identifier to one address. The identifier stands in the place of the
    /// source port; the destination port is 0.
    Icmp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

/// Who has begun a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The guest: the policy is asked.
    #[default]
    Guest,
    /// The host, which connects to a port of the guest: nobody is asked.
    Host,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Its number.
    pub id: FlowId,
    /// Its protocol.
    pub transport: Transport,
    /// The guest's end.
    pub source: SocketAddr,
    /// Where the guest wants to go, never IPv4-mapped; or whom it sees at the other end of what the
    /// host has begun.
    pub destination: SocketAddr,
    /// Who has begun it.
    pub origin: Origin,
}

impl Flow {
    /// What kind of address the destination is.
    #[must_use]
    pub fn destination_class(&self) -> AddressClass {
        AddressClass::of(self.destination.ip())
    }

    /// Whether it may be HTTP/3: UDP to port 443.
    #[must_use]
    pub fn is_quic(&self) -> bool {
        self.transport == Transport::Udp && self.destination.port() == 443
    }

    /// Whether it goes to the address that stands for the host's loopback.
    #[must_use]
    pub fn is_to_host(&self) -> bool {
        link::is_host(self.destination.ip())
    }

    /// Whether it goes to the gateway's resolver.
    #[must_use]
    pub fn is_to_resolver(&self) -> bool {
        link::is_gateway(self.destination.ip())
            && self.destination.port() == RESOLVER_PORT
            && self.transport != Transport::Icmp
    }
}
