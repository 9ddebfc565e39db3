//! What is told about intercepted connections. No header value, no query, no body.

use std::net::SocketAddr;

use crate::flow::FlowId;

/// Something that an auditor wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A request ended, one way or another.
    Request(RequestRecord),
    /// A connection was reset or cut off.
    Refused {
        /// The flow.
        flow: FlowId,
        /// Where it went.
        destination: SocketAddr,
        /// The name that the guest gave, if it got as far.
        name: Option<String>,
        /// Why.
        refusal: Refusal,
        /// More about it.
        detail: String,
    },
    /// A connection that was relayed without being opened has ended.
    Relayed {
        /// The flow.
        flow: FlowId,
        /// Where it went.
        destination: SocketAddr,
        /// The name in its ClientHello.
        name: Option<String>,
        /// Bytes from the guest.
        sent: u64,
        /// Bytes to the guest.
        received: u64,
    },
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// The flow it came in.
    pub flow: FlowId,
    /// Where it went, or would have gone.
    pub destination: SocketAddr,
    /// The method.
    pub method: String,
    /// The host as the request names it.
    pub host: String,
    /// The path without the query.
    pub path: String,
    /// Status of the response that the guest got; 0 when it got none.
    pub status: u16,
    /// Bytes of the request's body, and from the guest after an upgrade.
    pub sent: u64,
    /// Bytes of the response's body, and to the guest after an upgrade.
    pub received: u64,
    /// Why it was not let through, if it was not.
    pub refusal: Option<Refusal>,
    /// More about it: the reason that the middleware gave.
    pub detail: String,
}

/// Why a connection or a request was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither HTTP nor TLS, or nothing for too long.
    NotHttp,
    /// No trusted name, or not the one in the SNI or `Host`.
    Name,
    /// A name that leads to a private, loopback or link-local address.
    Private,
    /// A head, a chunk or a ClientHello that is ill-formed, too long or too slow.
    Malformed,
    /// `CONNECT` or `TRACE`.
    Method,
    /// The middleware said no, failed, or took too long.
    Middleware,
    /// A secret's placeholder on its way to a host that may not have the secret.
    Secret,
    /// The upstream's certificate, or what it speaks.
    UpstreamTls,
    /// The upstream failed.
    Upstream,
    /// Too many connections.
    Limit,
}

/// Is told. Must not block.
pub type Observer = crate::observer::Observer<Event>;
