//! Flows and addresses, as the protocol has them.

use std::net::SocketAddr;

use netstack::{AddressClass, Flow, Origin, Transport};
use protocol::v1;

/// A flow, with what is known of its addresses. One that the host has begun leads to the guest.
pub(super) fn flow(flow: &Flow) -> v1::Flow {
    let transport = match flow.transport {
        Transport::Tcp => v1::Transport::Tcp,
        Transport::Udp => v1::Transport::Udp,
        Transport::Icmp => v1::Transport::Icmp,
    };
    let (mut source, mut destination) = match flow.origin {
        Origin::Guest => (flow.source, flow.destination),
        Origin::Host => (flow.destination, flow.source),
    };
    if flow.transport == Transport::Icmp {
        // The identifier of the echoes is no port.
        source.set_port(0);
        destination.set_port(0);
    }
    v1::Flow {
        id: flow.id.0,
        transport: transport.into(),
        source: Some(endpoint(source)),
        destination: Some(endpoint(destination)),
    }
}

/// An address and a port.
pub(super) fn endpoint(address: SocketAddr) -> v1::Endpoint {
    let class = AddressClass::of(address.ip());
    let class = v1::AddressClass {
        loopback: class.loopback,
        private: class.private,
        link_local: class.link_local,
        multicast: class.multicast,
        broadcast: class.broadcast,
        documentation: class.documentation,
        reserved: class.reserved,
        public_internet: class.public_internet,
        host: class.host,
    };
    let (ip, port) = (address.ip().to_string(), address.port().into());
    v1::Endpoint { ip, port, class: Some(class) }
}

/// A flow, for people.
pub(super) fn words(flow: &Flow) -> String {
    format!("{} to {}", flow.transport, flow.destination)
}

#[cfg(test)]
mod tests {
    use netstack::FlowId;

    use super::*;

    #[test]
    fn echoes_have_no_ports_and_addresses_have_their_class() {
        let of = |transport| Flow {
            id: FlowId(7),
            transport,
            source: "10.0.2.15:4242".parse().unwrap(),
            destination: "10.0.2.2:80".parse().unwrap(),
            origin: Origin::Guest,
        };
        let echo = flow(&of(Transport::Icmp));
        assert_eq!((echo.id, echo.transport()), (7, v1::Transport::Icmp));
        assert_eq!((echo.source.unwrap().port, echo.destination.unwrap().port), (0, 0));
        let tcp = flow(&of(Transport::Tcp));
        assert_eq!(tcp.source.unwrap().port, 4242);
        let destination = tcp.destination.unwrap();
        assert_eq!((destination.ip.as_str(), destination.port), ("10.0.2.2", 80));
        let class = destination.class.unwrap();
        assert!(class.host && class.private && !class.public_internet && !class.loopback);
        let network = endpoint("10.0.2.255:9".parse().unwrap()).class.unwrap();
        assert!(network.broadcast && !network.host);
    }
}
