//! What the caller's code sees of a request, and what it may do with it.

use std::net::SocketAddr;

use async_trait::async_trait;
use http::{HeaderMap, Method, Response, Uri};

use super::body::Body;
use crate::names::HostName;
use crate::tls::Alpn;

/// The caller's code, in the middle of each request.
#[async_trait]
pub trait Middleware: Send + Sync + 'static {
    /// Looks at a request and may change its headers. A panic, or no verdict before the deadline,
    /// refuses it with a 403.
    async fn handle(&self, request: &mut Request) -> Verdict;
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It goes on, with its headers as they are now.
    Forward,
    /// It goes nowhere; the guest gets this.
    Respond(Response<Body>),
    /// It goes nowhere; the guest gets a 403 with the reason.
    Deny {
        /// For the guest and for the event.
        reason: String,
    },
}

/// A request, without its body.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Scheme, host, path and query.
    pub url: Uri,
    /// The headers, which may be changed. Changes to `host` and to those that frame the message or
    /// belong to the connection are undone.
    pub headers: HeaderMap,
    /// What the guest speaks.
    pub protocol: Protocol,
    /// Where the request goes.
    pub destination: Destination,
    /// What is known of the guest's TLS; absent in the clear.
    pub tls: Option<TlsInfo>,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The address that was dialled, as the guest names it.
    pub address: SocketAddr,
    /// The trusted name; absent where there is none.
    pub hostname: Option<HostName>,
}

/// The guest's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// The name in the ClientHello.
    pub server_name: Option<HostName>,
    /// The protocol that was negotiated.
    pub alpn: Alpn,
}
