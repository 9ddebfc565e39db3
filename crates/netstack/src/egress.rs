//! Dialling: the only place where sockets to the outside are made.
//!
//! What stands for the host on the virtual link is translated to the host's loopback here, and here
//! alone; addresses that are never dialled are refused here whoever asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::address::{AddressClass, canonical};
use crate::link;
use crate::policy::Grants;

#[cfg(test)]
mod tests;

/// How to dial.
#[derive(Clone, Copy, Debug)]
pub struct EgressOptions {
    /// How long a connection may take to be made, waiting for its turn included.
    pub connect_timeout: Duration,
    /// How many connections may be in the making at once.
    pub half_open: usize,
}

impl Default for EgressOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(20), half_open: 128 }
    }
}

/// Makes connections to the outside. Clones share the limits.
#[derive(Clone, Debug)]
pub struct Egress {
    options: EgressOptions,
    half_open: Arc<Semaphore>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is not dialled.
    #[error("Forbidden: {0}")]
    Forbidden(&'static str),
    /// It took too long.
    #[error("No connection within the time allowed")]
    TimedOut,
    /// The system or the other side refused.
    #[error("No connection")]
    Io(#[from] io::Error),
}

impl DialError {
    /// Linux error number; 0 when there is none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Io(error) => error.raw_os_error().unwrap_or(libc::EIO),
            Self::Forbidden(_) => libc::EACCES,
            Self::TimedOut => 0,
        }
    }
}

/// How long an idle connection is left alone before the host asks whether its peer lives.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(300);

impl Egress {
    /// A dialler.
    #[must_use]
    pub fn new(options: EgressOptions) -> Self {
        let half_open = options.half_open.min(Semaphore::MAX_PERMITS);
        Self { options, half_open: Arc::new(Semaphore::new(half_open)) }
    }

    /// Connects to a destination as the guest names it.
    ///
    /// # Errors
    /// When the address is not dialled, or the connection cannot be made.
    pub async fn connect(
        &self,
        destination: SocketAddr,
        grants: Grants,
    ) -> Result<TcpStream, DialError> {
        let real = target(destination, grants)?;
        let dial = async {
            // The semaphore is never closed.
            let _turn = self.half_open.acquire().await;
            TcpStream::connect(real).await
        };
        let stream = timeout(self.options.connect_timeout, dial)
            .await
            .map_err(|_| DialError::TimedOut)??;
        prepare(&stream)?;
        Ok(stream)
    }

    /// Begins to connect: the socket is writable when there is an outcome, which
    /// [`Begun::outcome`] tells. `None`: too many connections are in the making, and this one has to
    /// wait for its turn.
    pub(crate) fn begin(
        &self,
        destination: SocketAddr,
        grants: Grants,
    ) -> Result<Option<Begun>, DialError> {
        let real = target(destination, grants)?;
        let Ok(turn) = self.half_open.clone().try_acquire_owned() else { return Ok(None) };
        let domain = Domain::for_address(real);
        let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
        match socket.connect(&real.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
                return Err(error.into());
            }
            _ => {}
        }
        Ok(Some(Begun { socket, _turn: turn }))
    }

    /// How long a connection may take to be made.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    /// A UDP socket that is connected to a destination as the guest names it.
    ///
    /// # Errors
    /// When the address is not dialled, or the system has no socket left.
    pub async fn udp(
        &self,
        destination: SocketAddr,
        grants: Grants,
    ) -> Result<UdpSocket, DialError> {
        let real = target(destination, grants)?;
        let any: IpAddr = match real {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(real).await?;
        Ok(socket)
    }

    /// A socket for echo requests to a destination as the guest names it.
    pub(crate) fn ping(&self, destination: IpAddr, grants: Grants) -> Result<Socket, DialError> {
        let real = target(SocketAddr::new(destination, 0), grants)?;
        let (domain, protocol) = match real {
            SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?;
        socket.connect(&real.into())?;
        Ok(socket)
    }
}

/// A connection in the making.
#[derive(Debug)]
pub(crate) struct Begun {
    socket: Socket,
    _turn: OwnedSemaphorePermit,
}

impl Begun {
    /// The connected socket, or why there is none.
    pub(crate) fn outcome(self) -> io::Result<OwnedFd> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        prepare(&self.socket)?;
        Ok(self.socket.into())
    }
}

impl AsFd for Begun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes a host socket as relays need it: nothing is held back, and a peer that is gone is noticed.
pub(crate) fn prepare(stream: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER))
}

/// What is dialled for a destination as the guest names it.
pub(crate) fn target(destination: SocketAddr, grants: Grants) -> Result<SocketAddr, DialError> {
    let address = canonical(destination.ip());
    let port = destination.port();
    if link::is_host(address) {
        let loopback: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        return Ok(SocketAddr::new(loopback, port));
    }
    let class = AddressClass::of(address);
    if let Some(why) = class.forbidden() {
        return Err(DialError::Forbidden(why));
    }
    // Linux takes the unspecified address for loopback.
    let this_network = match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.to_bits() >> 32 == 0,
    };
    if this_network {
        return Err(DialError::Forbidden("no address of another machine"));
    }
    if link::is_on_link(address) || link::is_gateway(address) {
        return Err(DialError::Forbidden("nobody has this address on the virtual network"));
    }
    if class.link_local && !grants.link_local {
        return Err(DialError::Forbidden("link-local addresses need a grant of their own"));
    }
    Ok(SocketAddr::new(address, port))
}
