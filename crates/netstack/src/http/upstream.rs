//! One HTTP connection to the upstream, and how to make it.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use h2::Reason;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::body::Body;
use super::middleware::Protocol;
use crate::egress::{DialError, Egress};
use crate::names::HostName;
use crate::policy::Grants;
use crate::tls::Alpn;

/// HTTP/2 connections are asked whether they live after so long without a word.
const PING_AFTER: Duration = Duration::from_secs(60);
/// Bytes that a stream and a connection may have in flight (RFC 9113, 6.9).
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 4 << 20;
/// How long a connection may take to be ready again.
const READY: Duration = Duration::from_secs(2);

/// A stream of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}
pub(super) type AnyStream = Box<dyn Stream>;

/// What connections can stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) destination: SocketAddr,
    pub(super) tls: bool,
    pub(super) name: Option<HostName>,
    pub(super) alpn: Alpn,
}

/// How to get to the upstream.
pub(super) struct Route {
    pub(super) key: Key,
    pub(super) protocol: Protocol,
    pub(super) egress: Egress,
    pub(super) grants: Grants,
    /// How to speak TLS, offering the one protocol that the guest speaks by now.
    pub(super) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    pub(super) deadline: Duration,
}

/// Why there is no connection, or no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("it cannot be reached")]
    Dial(#[from] DialError),
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("it speaks another protocol than before")]
    Protocol,
    #[error("HTTP failed")]
    Http(#[source] hyper::Error),
    #[error("it took too long")]
    TimedOut,
    /// As it may do at any time, also when the next request is on its way.
    #[error("it ended a connection that was kept")]
    Ended(#[source] hyper::Error),
    /// It has not looked at the request (RFC 9113, 8.7).
    #[error("it took no more requests")]
    NotTaken,
}

/// A connection with HTTP on it.
pub(super) enum Connection {
    Http1 { sender: http1::SendRequest<Body>, used: bool, _driver: Driver },
    Http2 { sender: http2::SendRequest<Body>, driver: Arc<Driver> },
}

/// The task that moves the bytes; it ends with its owner.
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl From<hyper::Error> for UpstreamError {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        let reason = cause.filter(|cause| cause.is_remote()).and_then(h2::Error::reason);
        match (reason, cause) {
            (Some(Reason::REFUSED_STREAM), Some(cause)) if cause.is_reset() => Self::NotTaken,
            // A connection that ends goes on with the streams that it has taken.
            (Some(Reason::NO_ERROR), Some(cause)) if cause.is_go_away() => Self::NotTaken,
            _ => Self::Http(error),
        }
    }
}

/// Whether the connection has ended.
fn is_end(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.source().is_some_and(|cause| cause.is::<io::Error>())
}

/// The request that was not sent, and why.
pub(super) type Unsent = (Option<Box<Request<Body>>>, UpstreamError);

impl Route {
    /// Dials once more.
    pub(super) async fn connect(&self) -> Result<Connection, UpstreamError> {
        let stream = self.egress.connect(self.key.destination, self.grants).await?;
        let Some((name, config)) = &self.tls else { return self.begin(Box::new(stream)).await };
        let (stream, alpn) = open_tls(name, config, stream, self.deadline).await?;
        if alpn != self.key.alpn {
            return Err(UpstreamError::Protocol);
        }
        self.begin(stream).await
    }

    /// Begins HTTP on a connection that is there.
    pub(super) async fn begin(&self, stream: AnyStream) -> Result<Connection, UpstreamError> {
        let io = TokioIo::new(stream);
        match self.protocol {
            Protocol::Http1 => {
                let mut builder = http1::Builder::new();
                builder.preserve_header_case(true);
                let (sender, connection) = builder.handshake(io).await?;
                let driver = drive(connection.with_upgrades());
                Ok(Connection::Http1 { sender, used: false, _driver: driver })
            }
            Protocol::Http2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .keep_alive_interval(PING_AFTER);
                let handshake = builder.handshake(io);
                let (sender, connection) = timeout(self.deadline, handshake)
                    .await
                    .map_err(|_| UpstreamError::TimedOut)??;
                let driver = Arc::new(drive(connection));
                Ok(Connection::Http2 { sender, driver })
            }
        }
    }
}

fn drive(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Driver {
    Driver(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream ended early");
        }
    }))
}

/// Speaks TLS on a connection; says which protocol was chosen.
pub(super) async fn open_tls(
    name: &ServerName<'static>,
    config: &Arc<ClientConfig>,
    stream: impl Stream + 'static,
    deadline: Duration,
) -> Result<(AnyStream, Alpn), UpstreamError> {
    let connector = TlsConnector::from(Arc::clone(config));
    let handshake = timeout(deadline, connector.connect(name.clone(), stream)).await;
    let stream = handshake.map_err(|_| UpstreamError::TimedOut)?.map_err(UpstreamError::Tls)?;
    let alpn = Alpn::negotiated(stream.get_ref().1.alpn_protocol());
    Ok((Box::new(stream), alpn))
}

impl Connection {
    /// Another handle on it, where it carries several requests at once.
    pub(super) fn share(&self) -> Option<Self> {
        match self {
            Self::Http1 { .. } => None,
            Self::Http2 { sender, driver } => {
                Some(Self::Http2 { sender: sender.clone(), driver: Arc::clone(driver) })
            }
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1 { sender, .. } => sender.is_closed(),
            Self::Http2 { sender, .. } => sender.is_closed(),
        }
    }

    /// Whether it is free for another owner.
    pub(super) fn is_free(&self) -> bool {
        match self {
            Self::Http1 { sender, .. } => sender.is_ready() && !sender.is_closed(),
            Self::Http2 { sender, .. } => sender.is_ready() && !sender.is_closed(),
        }
    }

    /// Whether a request may come to nothing without a fault of its own.
    pub(super) fn may_refuse(&self) -> bool {
        match self {
            Self::Http1 { used, .. } => *used,
            Self::Http2 { .. } => true,
        }
    }

    /// Waits until it takes a request; `false` when it will not.
    pub(super) async fn ready(&mut self) -> bool {
        let ready = async {
            match self {
                Self::Http1 { sender, .. } => sender.ready().await,
                Self::Http2 { sender, .. } => sender.ready().await,
            }
        };
        matches!(timeout(READY, ready).await, Ok(Ok(())))
    }

    /// Sends a request. What was certainly not sent comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Unsent> {
        let mut kept = false;
        let sent = match self {
            Self::Http1 { sender, used, .. } => {
                kept = std::mem::replace(used, true);
                sender.try_send_request(request).await
            }
            Self::Http2 { sender, .. } => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error: TrySendError<Request<Body>>| {
            let request = error.take_message().map(Box::new);
            let error = match UpstreamError::from(error.into_error()) {
                UpstreamError::Http(error) if kept && is_end(&error) => UpstreamError::Ended(error),
                error => error,
            };
            (request, error)
        })
    }
}
