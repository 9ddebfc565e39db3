//! One request, from the guest to the upstream, and its response back.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use http::header::{CONTENT_TYPE, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{
    HeaderMap, HeaderValue, Method, Request as HttpRequest, Response, StatusCode, Uri, Version,
};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::timeout;

use super::activity::Activity;
use super::binding::{Binding, Server};
use super::body::{Body, Counted, Holding, full};
use super::event::Refusal;
use super::guard::Watch;
use super::headers;
use super::middleware::{Destination, Middleware, Protocol, Request, TlsInfo, Verdict};
use super::record::{Direction, Record};
use super::service::Http;
use super::upstream::{Connection, Route, UpstreamError};
use crate::flow::Flow;
use crate::names::HostName;

/// A connection of the guest, as its requests see it.
pub(super) struct Session {
    pub(super) http: Arc<Http>,
    pub(super) middleware: Option<Arc<dyn Middleware>>,
    pub(super) flow: Flow,
    pub(super) binding: Binding,
    /// The server in the SNI.
    pub(super) server: Option<Server>,
    pub(super) tls: Option<TlsInfo>,
    pub(super) route: Route,
    pub(super) upstream: AsyncMutex<Option<Connection>>,
    /// Why no request can be sent.
    pub(super) broken: Option<String>,
    pub(super) activity: Activity,
    pub(super) watch: Watch,
    pub(super) tunnel: Mutex<Option<Tunnel>>,
}

/// A connection that leaves HTTP behind.
pub(super) struct Tunnel {
    pub(super) guest: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) record: Arc<Record>,
    /// Moves the upstream's bytes.
    pub(super) connection: Connection,
}

/// How often a request is sent that the upstream does not answer: on a connection that ends, on the
/// same once more before that is known, on a new one, and on one after that.
const ATTEMPTS: usize = 4;

/// A request that goes nowhere.
struct Refused {
    status: StatusCode,
    refusal: Refusal,
    detail: String,
    /// Whether the guest is told that nobody has looked at it (RFC 9113, 8.7), rather than the status.
    not_taken: bool,
}

impl Refused {
    fn forbidden(refusal: Refusal, detail: impl Into<String>) -> Self {
        Self { status: StatusCode::FORBIDDEN, refusal, detail: detail.into(), not_taken: false }
    }

    fn upstream(error: &UpstreamError) -> Self {
        let status = match error {
            UpstreamError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        };
        let refusal = match error {
            UpstreamError::Tls(_) | UpstreamError::Protocol => Refusal::UpstreamTls,
            _ => Refusal::Upstream,
        };
        let not_taken = matches!(error, UpstreamError::NotTaken);
        Self { status, refusal, detail: format!("the upstream failed: {error}"), not_taken }
    }
}

/// A request that may be sent.
struct Checked {
    name: Option<HostName>,
    /// The host as it is sent on: lower case, without the last dot.
    authority: String,
    target: PathAndQuery,
    method: Method,
    headers: HeaderMap,
    upgrade: Option<HeaderValue>,
    extensions: http::Extensions,
}

/// Answers one request. Of HTTP/2, it may also be refused in a way that lets the guest send it again.
pub(super) async fn handle(
    session: &Arc<Session>,
    mut request: HttpRequest<Incoming>,
) -> Result<Response<Body>, h2::Error> {
    let busy = session.activity.begin();
    let record = Arc::new(Record::new(
        session.http.options.observer.clone(),
        &session.flow,
        request.method(),
        host_of(&request).unwrap_or_default(),
        request.uri().path(),
    ));
    let on_upgrade = hyper::upgrade::on(&mut request);
    let response = match session.forward(request, on_upgrade, &record).await {
        Ok(response) => response,
        Err(refused) => {
            record.set_refused(refused.refusal, &refused.detail);
            if refused.not_taken {
                return Err(h2::Reason::REFUSED_STREAM.into());
            }
            let mut response = Response::new(full(format!("lanebox: {}\n", refused.detail)));
            *response.status_mut() = refused.status;
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, text);
            response
        }
    };
    record.set_status(response.status());
    Ok(response.map(|body| {
        let body = Counted::new(body, Arc::clone(&record), Direction::ToGuest);
        Holding { body, kept: Some((busy, record)) }.boxed_unsync()
    }))
}

/// The host that a request names, in the one way that it may.
fn host_of(request: &HttpRequest<Incoming>) -> Result<String, &'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (field, more) = (hosts.next(), hosts.next());
    let field = field.map(|host| host.to_str().map_err(|_| "Host is ill-formed")).transpose()?;
    let target = request.uri().authority().map(|authority| authority.as_str());
    match (field, target, more) {
        (_, _, Some(_)) => Err("Host stands there twice"),
        (Some(field), Some(target), None) if !field.eq_ignore_ascii_case(target) => {
            Err("Host is not the host of the target")
        }
        (Some(host), ..) | (None, Some(host), _) => Ok(host.to_owned()),
        (None, None, None) => Err("Host is missing"),
    }
}

/// The same request, had it no body.
fn without_body(request: &HttpRequest<Body>) -> HttpRequest<Body> {
    let mut copy = HttpRequest::new(full(""));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

impl Session {
    async fn forward(
        self: &Arc<Self>,
        request: HttpRequest<Incoming>,
        guest: OnUpgrade,
        record: &Arc<Record>,
    ) -> Result<Response<Body>, Refused> {
        let (mut checked, body) = self.check(request)?;
        let original = checked.headers.clone();
        if let Some(response) = self.ask_middleware(&mut checked).await? {
            return Ok(response);
        }
        headers::restore(&original, &mut checked.headers);
        let secrets = &self.http.options.secrets;
        secrets.apply(checked.name.as_ref(), &mut checked.headers, &mut checked.target).map_err(
            |blocked| {
                let detail = format!("{} must not be sent to this host", blocked.name);
                Refused::forbidden(Refusal::Secret, detail)
            },
        )?;
        let injected = headers::injected(&original, &mut checked.headers);
        if let Some(broken) = &self.broken {
            let (status, refusal) = (StatusCode::BAD_GATEWAY, Refusal::UpstreamTls);
            return Err(Refused { status, refusal, detail: broken.clone(), not_taken: false });
        }
        let upgrading = checked.upgrade.is_some();
        let request = self.compose(checked, body, record)?;
        let (response, connection) =
            self.send(request).await.map_err(|error| Refused::upstream(&error))?;
        let mut response = response;
        headers::scrub(response.headers_mut(), &injected);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let connection = connection
                .filter(|_| upgrading)
                .ok_or_else(|| Refused::upstream(&UpstreamError::Protocol))?;
            return Ok(self.switch(response, guest, connection, record));
        }
        if let Some(connection) = connection {
            *self.upstream.lock().await = Some(connection);
        }
        headers::strip_response(response.headers_mut());
        let (mut parts, body) = response.into_parts();
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
    }

    /// Checks what the guest asks for, before anybody else sees it.
    fn check(&self, request: HttpRequest<Incoming>) -> Result<(Checked, Incoming), Refused> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            let detail = format!("{} is not let through", request.method());
            return Err(Refused::forbidden(Refusal::Method, detail));
        }
        let host = host_of(&request).map_err(|why| Refused::forbidden(Refusal::Name, why))?;
        let name = self
            .binding
            .request(&host, self.server.as_ref())
            .map_err(|(refusal, detail)| Refused::forbidden(refusal, detail))?;
        let authority = match &name {
            None => host,
            Some(name) => {
                let port = host.rsplit_once(':').map(|(_, port)| format!(":{port}"));
                format!("{name}{}", port.unwrap_or_default())
            }
        };
        let (mut parts, body) = request.into_parts();
        let upgrade = headers::upgrade(&parts.headers).filter(|_| {
            self.route.protocol == Protocol::Http1 && parts.version == Version::HTTP_11
        });
        headers::strip(&mut parts.headers);
        let host = HeaderValue::from_str(&authority)
            .map_err(|_| Refused::forbidden(Refusal::Name, "the host is ill-formed"))?;
        parts.headers.insert(HOST, host);
        let target = parts.uri.path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let Parts { method, headers, extensions, .. } = parts;
        Ok((Checked { name, authority, target, method, headers, upgrade, extensions }, body))
    }

    fn url(&self, checked: &Checked) -> Result<Uri, Refused> {
        if checked.target.as_str() == "*" {
            return Ok(Uri::from(checked.target.clone()));
        }
        Uri::builder()
            .scheme(if self.tls.is_some() { "https" } else { "http" })
            .authority(checked.authority.as_str())
            .path_and_query(checked.target.clone())
            .build()
            .map_err(|_| Refused::forbidden(Refusal::Malformed, "the target is ill-formed"))
    }

    /// The response of the middleware, if it answers itself.
    async fn ask_middleware(
        &self,
        checked: &mut Checked,
    ) -> Result<Option<Response<Body>>, Refused> {
        let Some(middleware) = &self.middleware else { return Ok(None) };
        let address = self.flow.destination;
        let mut request = Request {
            method: checked.method.clone(),
            url: self.url(checked)?,
            headers: std::mem::take(&mut checked.headers),
            protocol: self.route.protocol,
            destination: Destination { address, hostname: checked.name.clone() },
            tls: self.tls.clone(),
        };
        let asked = AssertUnwindSafe(middleware.handle(&mut request)).catch_unwind();
        let verdict = timeout(self.http.options.limits.middleware_deadline, asked).await;
        checked.headers = request.headers;
        let refused = |why: &str| Err(Refused::forbidden(Refusal::Middleware, why));
        match verdict {
            Ok(Ok(Verdict::Forward)) => Ok(None),
            Ok(Ok(Verdict::Respond(mut response))) => {
                headers::strip_response(response.headers_mut());
                Ok(Some(response))
            }
            Ok(Ok(Verdict::Deny { reason })) => refused(&reason),
            Ok(Err(_)) => refused("the decision failed"),
            Err(_) => refused("no decision in time"),
        }
    }

    /// The request as the upstream gets it.
    fn compose(
        &self,
        checked: Checked,
        body: Incoming,
        record: &Arc<Record>,
    ) -> Result<HttpRequest<Body>, Refused> {
        let uri = match self.route.protocol {
            Protocol::Http1 => Uri::from(checked.target.clone()),
            Protocol::Http2 => self.url(&checked)?,
        };
        let mut headers = checked.headers;
        if self.route.protocol == Protocol::Http2 {
            headers.remove(HOST);
        }
        if let Some(protocol) = checked.upgrade {
            headers::set_upgrade(&mut headers, protocol);
        }
        let waits = headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let mut request = HttpRequest::new(full(""));
        *request.method_mut() = checked.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        // The spelling of header names is among these.
        *request.extensions_mut() = checked.extensions;
        let mut body = Counted::new(body, Arc::clone(record), Direction::FromGuest);
        if waits && self.route.protocol == Protocol::Http1 {
            let (sender, wanted) = oneshot::channel();
            let sender = Mutex::new(Some(sender));
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE
                    && let Some(sender) =
                        sender.lock().unwrap_or_else(PoisonError::into_inner).take()
                {
                    let _ = sender.send(());
                }
            });
            body = body.held(wanted);
        }
        *request.body_mut() = body.boxed_unsync();
        Ok(request)
    }

    /// Sends a request; again, on another connection, while the upstream has not looked at it and
    /// nothing of its body is gone. Where the upstream may have looked at it, only if that makes no
    /// difference (RFC 9110, 9.2.2). A connection that carries one request at a time comes back with
    /// the response.
    async fn send(
        &self,
        request: HttpRequest<Body>,
    ) -> Result<(Response<Incoming>, Option<Connection>), UpstreamError> {
        let deadline = self.http.options.limits.response_deadline;
        let mut request = request;
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let mut connection = self.check_out().await?;
            let spare = (connection.may_refuse() && request.body().is_end_stream())
                .then(|| without_body(&request));
            let sent = timeout(deadline, connection.send(request)).await;
            let (unsent, error) = match sent.map_err(|_| UpstreamError::TimedOut)? {
                Ok(response) => {
                    let single = matches!(connection, Connection::Http1 { .. });
                    return Ok((response, single.then_some(connection)));
                }
                Err(failed) => failed,
            };
            let spare = spare.filter(|spare| match error {
                UpstreamError::NotTaken => true,
                UpstreamError::Ended(_) => spare.method().is_idempotent(),
                _ => false,
            });
            match unsent.map(|unsent| *unsent).or(spare) {
                Some(next) if left > 0 => request = next,
                _ => return Err(error),
            }
        }
    }

    /// A connection that takes a request: the one at hand, or a new one.
    async fn check_out(&self) -> Result<Connection, UpstreamError> {
        let mut slot = self.upstream.lock().await;
        if let Some(mut connection) = slot.take()
            && !connection.is_closed()
            && connection.ready().await
        {
            *slot = connection.share();
            return Ok(connection);
        }
        let connection = match self.http.pool.take(&self.route.key) {
            Some(connection) => connection,
            None => self.route.connect().await?,
        };
        *slot = connection.share();
        Ok(connection)
    }

    /// Leaves HTTP behind, once the guest has the response.
    fn switch(
        &self,
        mut response: Response<Incoming>,
        guest: OnUpgrade,
        connection: Connection,
        record: &Arc<Record>,
    ) -> Response<Body> {
        let protocol = headers::upgrade(response.headers());
        let upstream = hyper::upgrade::on(&mut response);
        headers::strip_response(response.headers_mut());
        if let Some(protocol) = protocol {
            headers::set_upgrade(response.headers_mut(), protocol);
        }
        let tunnel = Tunnel { guest, upstream, connection, record: Arc::clone(record) };
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
        self.watch.upgrade();
        let (parts, _) = response.into_parts();
        Response::from_parts(parts, full(""))
    }
}
