//! What may stand behind a flow instead of a plain relay.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpStream;

use crate::egress::Egress;
use crate::flow::Flow;
use crate::policy::Grants;
use crate::stream::GuestStream;

/// Sits in the middle of TCP connections.
///
/// By the time it is called the upstream is connected, and the guest's `connect` has succeeded.
/// When the future ends or panics, what it dropped is closed.
#[async_trait]
pub trait Interceptor: Send + Sync + 'static {
    /// Serves one connection to its end.
    async fn serve(&self, call: Intercepted);
}

/// A connection that is handed to an [`Interceptor`].
#[derive(Debug)]
pub struct Intercepted {
    /// The flow; its destination is what was dialled.
    pub flow: Flow,
    /// What the policy granted.
    pub grants: Grants,
    /// The guest's half.
    pub guest: GuestStream,
    /// Connected to the flow's destination, or to the host's loopback where that stands for it.
    pub upstream: TcpStream,
    /// For further connections, under the same rules for addresses.
    pub egress: Egress,
}

/// Answers what the guest asks the gateway's port 53.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// Answers one UDP query; `None` sends nothing. Several run at once, up to a limit; what comes
    /// above it is dropped and counted.
    async fn answer(&self, flow: &Flow, query: Bytes) -> Option<Bytes>;

    /// Serves one TCP connection to its end.
    async fn serve(&self, flow: Flow, stream: GuestStream);
}
