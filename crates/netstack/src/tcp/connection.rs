//! One connection: what it is made of, and how a packet of the guest gets in.

use std::io;
use std::net::SocketAddr;

use smoltcp::iface::{Config, Interface};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint};

use super::phy::{Last, Phy};
use super::upstream::Upstream;
use crate::event::FlowEnd;
use crate::flow::{Flow, Origin};
use crate::sys::{Buffers, LeasedSocket};
use crate::wire::{Outbox, Segment};

/// What a connection has to know about the link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) mac: EthernetAddress,
    pub(crate) mtu: u16,
    pub(crate) offload: bool,
}

/// What the guest says to a connection that the host begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// It is made.
    Open,
    /// It has been reset.
    Refused,
}

/// A connection with the guest, and with its upstream.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact about one direction of one side")]
pub(crate) struct Connection {
    pub(super) iface: Interface,
    pub(super) socket: LeasedSocket,
    pub(super) upstream: Upstream,
    pub(super) link: Link,
    pub(super) guest: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) last: Last,
    /// The upstream may have bytes for us.
    pub(super) readable: bool,
    /// The upstream may have room for bytes.
    pub(super) writable: bool,
    /// The upstream has said that it ends: a short read does not mean that it is empty.
    pub(super) hung_up: bool,
    /// The upstream sends no more.
    pub(super) upstream_done: bool,
    /// We have told the upstream that the guest sends no more.
    pub(super) guest_done: bool,
    /// The upstream reads no more.
    pub(super) deaf: bool,
    /// The guest has reset the connection.
    pub(super) guest_reset: bool,
    /// We have reset the connection, for this reason.
    pub(super) aborted: Option<FlowEnd>,
    /// When the guest was last heard.
    pub(super) heard: Instant,
    /// Since when something waits for the guest's acknowledgement.
    pub(super) owed: Option<Instant>,
    /// Bytes of payload from the guest.
    pub(crate) sent: u64,
    /// Bytes of payload to the guest.
    pub(crate) received: u64,
}

impl Connection {
    /// A connection whose upstream is there. Either the guest's SYN comes next, or we send ours.
    pub(crate) fn new(
        flow: &Flow,
        upstream: Upstream,
        buffers: &Buffers,
        link: Link,
        (now, seed): (Instant, u64),
    ) -> io::Result<Box<Self>> {
        let mut socket = buffers.socket()?;
        socket.get().set_nagle_enabled(false);
        socket.get().set_ack_delay(None);
        let (mut unused, mut last) = (Outbox::default(), Last::default());
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut phy = Phy {
            packet: None,
            outbox: &mut unused,
            last: &mut last,
            guest: flow.source.ip(),
            destination: flow.destination.ip(),
            mac: link.mac,
            mtu: link.mtu,
            offload: link.offload,
        };
        let mut iface = Interface::new(config, &mut phy, now);
        let address = flow.destination.ip().into();
        let whole = if flow.destination.is_ipv4() { 32 } else { 128 };
        iface.update_ip_addrs(|addresses| {
            // One of at least two places.
            let _ = addresses.push(IpCidr::new(address, whole));
        });
        // Everything goes to the one link there is; the address of the router is of no account.
        let routes = iface.routes_mut();
        let added = match flow.source {
            SocketAddr::V4(guest) => routes.add_default_ipv4_route(*guest.ip()),
            SocketAddr::V6(guest) => routes.add_default_ipv6_route(*guest.ip()),
        };
        added.map_err(io::Error::other)?;
        // The ports are not 0, and the socket is new.
        let (local, remote) = (IpEndpoint::from(flow.destination), IpEndpoint::from(flow.source));
        let socket_of = socket.get();
        match flow.origin {
            Origin::Guest => socket_of.listen(local).map_err(io::Error::other)?,
            Origin::Host => {
                socket_of.connect(iface.context(), remote, local).map_err(io::Error::other)?;
            }
        }
        Ok(Box::new(Self {
            iface,
            socket,
            upstream,
            link,
            guest: flow.source,
            destination: flow.destination,
            last,
            readable: true,
            writable: true,
            hung_up: false,
            upstream_done: false,
            guest_done: false,
            deaf: false,
            guest_reset: false,
            aborted: None,
            heard: now,
            owed: None,
            sent: 0,
            received: 0,
        }))
    }

    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.socket.get()
    }

    /// Takes a packet of the guest in. It is to be served after.
    pub(crate) fn take(
        &mut self,
        packet: &[u8],
        segment: &Segment<'_>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        self.heard = now;
        let before = self.socket().state();
        let mut phy = Phy {
            packet: Some(packet),
            outbox,
            last: &mut self.last,
            guest: self.guest.ip(),
            destination: self.destination.ip(),
            mac: self.link.mac,
            mtu: self.link.mtu,
            offload: self.link.offload,
        };
        self.iface.poll_ingress_single(now, &mut phy, self.socket.set());
        let after = self.socket().state();
        // A socket that had not been connected listens again, or is closed.
        let gone = matches!(after, tcp::State::Closed | tcp::State::Listen);
        if segment.rst && gone && before != after {
            self.guest_reset = true;
        }
    }

    /// What epoll said about the upstream.
    pub(crate) fn ready(&mut self, readable: bool, writable: bool, hung_up: bool) {
        self.readable |= readable || hung_up;
        self.writable |= writable || hung_up;
        self.hung_up |= hung_up;
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Leaves the guest to itself.
    pub(crate) fn into_upstream(self) -> Upstream {
        self.upstream
    }

    /// What has come of our SYN. `None`: nothing yet.
    pub(crate) fn dialled(&mut self) -> Option<Dialled> {
        if self.guest_reset {
            return Some(Dialled::Refused);
        }
        let waits = matches!(self.socket().state(), tcp::State::SynSent | tcp::State::SynReceived);
        (!waits).then_some(Dialled::Open)
    }
}
