//! The middleware behind callbacks: each request is a question.

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, Response};
use netstack::http::{Middleware, Protocol, Request, TlsInfo, Verdict, full};
use netstack::tls::Alpn;
use protocol::v1;
use protocol::v1::network_call::Call;

use super::answer::{Expected, Outcome, RequestVerdict};
use super::flow::endpoint;
use super::served::Interest;

/// Asks the client about each request of one flow. When it is dropped, the client is told.
#[derive(Debug)]
pub(super) struct StreamMiddleware(Interest);

impl StreamMiddleware {
    pub(super) fn new(interest: Interest) -> Self {
        Self(interest)
    }
}

#[async_trait]
impl Middleware for StreamMiddleware {
    async fn handle(&self, request: &mut Request) -> Verdict {
        let flow = self.0.flow().0;
        let call = Call::Http(question(flow, request));
        let about = || {
            let host = request.url.host().unwrap_or_default();
            format!("{} {host}{}", request.method, request.url.path())
        };
        let verdict = match self.0.served().ask(about, call, Expected::Verdict).await {
            Ok(Outcome::Verdict(verdict)) => verdict,
            Ok(_) => RequestVerdict::Deny("the policy failed".to_owned()),
            Err(fault) => RequestVerdict::Deny(format!("the policy has no verdict: {fault}")),
        };
        match verdict {
            RequestVerdict::Forward(headers) => {
                tracing::debug!(flow, fields = headers.len(), "the policy lets a request through");
                request.headers = headers;
                Verdict::Forward
            }
            RequestVerdict::Respond(status, mut headers, body) => {
                tracing::debug!(flow, %status, bytes = body.len(), "the policy answers a request");
                for framing in [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER] {
                    headers.remove(framing);
                }
                let mut response = Response::new(full(body));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Verdict::Respond(response)
            }
            RequestVerdict::Deny(reason) => {
                tracing::debug!(flow, reason, "the policy denies a request");
                Verdict::Deny { reason }
            }
        }
    }
}

fn question(flow_id: u64, request: &Request) -> v1::HttpRequestCall {
    let protocol = match request.protocol {
        Protocol::Http1 => v1::HttpProtocol::Http1,
        Protocol::Http2 => v1::HttpProtocol::Http2,
    };
    let hostname = request.destination.hostname.as_ref();
    v1::HttpRequestCall {
        flow_id,
        method: request.method.to_string(),
        url: request.url.to_string(),
        headers: fields(&request.headers),
        protocol: protocol.into(),
        destination: Some(endpoint(request.destination.address)),
        hostname: hostname.map(ToString::to_string).unwrap_or_default(),
        tls: request.tls.as_ref().map(tls),
    }
}

fn fields(headers: &HeaderMap) -> Vec<v1::HttpHeader> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| v1::HttpHeader {
        name: name.to_string(),
        value: value.as_bytes().to_vec().into(),
    };
    headers.iter().map(field).collect()
}

fn tls(tls: &TlsInfo) -> v1::TlsInfo {
    let alpn = match tls.alpn {
        Alpn::None => "",
        Alpn::Http1 => "http/1.1",
        Alpn::Http2 => "h2",
    };
    v1::TlsInfo {
        server_name: tls.server_name.as_ref().map(ToString::to_string).unwrap_or_default(),
        alpn: alpn.to_owned(),
    }
}
