//! Ports of the guest, for the host: connections to them, and listeners that lead there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::inbound::Dial;
use super::run::{Command, Mailbox};
use crate::address::canonical;
use crate::egress;
use crate::flow::FlowId;
use crate::stream::GuestStream;
use crate::tcp::Upstream;

/// Clients of one listener that wait for the guest at once. More wait in the listener's queue.
const AT_ONCE: usize = 128;
/// How long a listener rests that the system has given an error: most often there is no descriptor
/// left.
const REST: Duration = Duration::from_millis(100);

/// Why there is no connection to a port of the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectGuestError {
    /// Nobody listens there, at neither address of the guest.
    #[error("The guest refused the connection")]
    Refused,
    /// The guest has not answered.
    #[error("The guest did not answer in time")]
    TimedOut,
    /// The guest's hardware address is not known yet: it has sent nothing so far.
    #[error("The guest has not come up")]
    NoGuest,
    /// There are too many connections.
    #[error("There are too many connections")]
    Limit,
    /// The network has ended.
    #[error("The network has ended")]
    Ended,
    /// The port is 0.
    #[error("There is no port 0")]
    PortZero,
    /// The system refused something.
    #[error("Cannot make the connection")]
    Io(#[from] io::Error),
}

/// The way to TCP ports of the guest, which sees 10.0.2.2 or fd00::2 at the other end.
///
/// The policy is not asked about these connections. They count in [`Stats`](super::Stats) and are
/// told of as flows of [`Origin::Host`](crate::Origin::Host). Clones lead to the same guest.
#[derive(Clone)]
pub struct GuestPorts {
    mailbox: Mailbox,
    runtime: Handle,
    /// Closed when the network has ended.
    lives: watch::Receiver<()>,
}

impl fmt::Debug for GuestPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestPorts")
    }
}

impl GuestPorts {
    pub(super) fn new(mailbox: Mailbox, runtime: Handle, lives: watch::Receiver<()>) -> Self {
        Self { mailbox, runtime, lives }
    }

    /// Connects to a port of the guest: over IPv4, and if nobody listens there, over IPv6. Must be
    /// called in a runtime.
    ///
    /// # Errors
    /// When the guest refuses or does not answer, or a limit is reached.
    pub async fn connect(&self, port: u16) -> Result<GuestStream, ConnectGuestError> {
        let (stream, other, resets) = GuestStream::connected()?;
        self.dial(port, false, Upstream::local(other, resets)).await?;
        Ok(stream)
    }

    /// Joins a connection of the host with a port of the guest, in the family of the client first.
    /// Bytes, half-closes and resets go both ways from then on, without the caller; a connection that
    /// the guest does not take is reset.
    ///
    /// # Errors
    /// When the guest refuses or does not answer, or a limit is reached.
    pub async fn forward(&self, client: TcpStream, port: u16) -> Result<FlowId, ConnectGuestError> {
        egress::prepare(&client)?;
        let v6 = canonical(client.peer_addr()?.ip()).is_ipv6();
        let client: OwnedFd = client.into_std()?.into();
        self.dial(port, v6, Upstream::socket(client)).await
    }

    async fn dial(
        &self,
        port: u16,
        v6: bool,
        client: Upstream,
    ) -> Result<FlowId, ConnectGuestError> {
        if port == 0 {
            return Err(ConnectGuestError::PortZero);
        }
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Command::Dial(Dial { port, v6, client, reply }));
        answer.await.unwrap_or(Err(ConnectGuestError::Ended))
    }

    /// Forwards what comes to a listener, until the [`Published`] is dropped or the network ends.
    ///
    /// # Errors
    /// When the port is 0, or the listener does not know its address.
    pub fn publish(
        &self,
        listener: TcpListener,
        guest_port: u16,
    ) -> Result<Published, ConnectGuestError> {
        if guest_port == 0 {
            return Err(ConnectGuestError::PortZero);
        }
        let address = listener.local_addr()?;
        let task = self.runtime.spawn(self.clone().accept(listener, guest_port));
        Ok(Published { address, guest_port, task })
    }

    async fn accept(mut self, listener: TcpListener, port: u16) {
        let ports = self.clone();
        let mut waiting = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if waiting.len() < AT_ONCE => match accepted {
                    Ok((client, _)) => waiting.push(ports.forward(client, port)),
                    Err(error) => {
                        tracing::warn!(%error, port, "A published port cannot take a connection");
                        tokio::time::sleep(REST).await;
                    }
                },
                Some(outcome) = waiting.next(), if !waiting.is_empty() => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, port, "A connection to the guest was not made");
                    }
                }
                _ = self.lives.changed() => return,
            }
        }
    }
}

/// A listener that leads to a port of the guest. Dropping it ends it; connections that are open go
/// on.
#[derive(Debug)]
pub struct Published {
    address: SocketAddr,
    guest_port: u16,
    task: JoinHandle<()>,
}

impl Published {
    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads.
    #[must_use]
    pub fn guest_port(&self) -> u16 {
        self.guest_port
    }

    /// Stops listening, and waits until the address is free again.
    pub async fn close(mut self) {
        self.task.abort();
        // It was aborted, or had ended with the network.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.task.abort();
    }
}
