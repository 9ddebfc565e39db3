//! One connection of the guest: what it speaks, whom it is for, and who answers.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::net::TcpStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::activity::Activity;
use super::binding::{Binding, Server};
use super::detect::Detected;
use super::event::{Event, Refusal};
use super::exchange::Session;
use super::guard::Watch;
use super::middleware::{Middleware, Protocol, TlsInfo};
use super::options::Target;
use super::peeked::Rewound;
use super::serve::serve;
use super::service::Http;
use super::tunnel::{self, Meter};
use super::upstream::{AnyStream, Connection, Key, Route, UpstreamError, open_tls};
use crate::egress::Egress;
use crate::flow::Flow;
use crate::policy::Grants;
use crate::service::Intercepted;
use crate::stream::GuestStream;
use crate::tls::{Alpn, ClientHello};

/// A connection that has just been handed over.
pub(super) struct Call {
    http: Arc<Http>,
    middleware: Option<Arc<dyn Middleware>>,
    binding: Binding,
    flow: Flow,
    grants: Grants,
    egress: Egress,
    guest: Rewound<GuestStream>,
}

/// The upstream's side of a connection with TLS.
struct Upstream {
    alpn: Alpn,
    ready: Ready,
}

enum Ready {
    /// From the pool.
    Http(Connection),
    /// TLS is open, HTTP has not begun.
    Tls(AnyStream),
    /// The guest is told so, in HTTP.
    Broken(String),
}

impl Call {
    pub(super) fn new(
        http: &Arc<Http>,
        target: &Target,
        middleware: Option<Arc<dyn Middleware>>,
        call: Intercepted,
    ) -> (Self, TcpStream) {
        let binding = Binding::new(&http.options.names, target, call.flow.destination);
        let opened = Self {
            http: Arc::clone(http),
            middleware,
            binding,
            flow: call.flow,
            grants: call.grants,
            egress: call.egress,
            guest: Rewound::new(call.guest),
        };
        (opened, call.upstream)
    }

    pub(super) fn refuse_for_limit(self) {
        self.refuse(None, Refusal::Limit, "too many intercepted connections");
    }

    /// Serves the connection to its end.
    pub(super) async fn serve(mut self, upstream: TcpStream) {
        let deadline = self.http.options.limits.head_deadline;
        match timeout(deadline, self.guest.detect()).await {
            Ok(Ok(Some(Detected::Tls))) => self.serve_tls(upstream).await,
            Ok(Ok(Some(Detected::Http1))) => self.serve_plain(upstream, Protocol::Http1).await,
            Ok(Ok(Some(Detected::Http2))) => self.serve_plain(upstream, Protocol::Http2).await,
            Ok(Ok(Some(_))) => self.refuse(None, Refusal::NotHttp, "neither HTTP nor TLS"),
            Ok(Ok(None) | Err(_)) => (),
            Err(_) => self.refuse(None, Refusal::NotHttp, "nothing was said in time"),
        }
    }

    fn refuse(self, name: Option<String>, refusal: Refusal, detail: &str) {
        self.tell_refused(name, refusal, detail);
        self.guest.into_inner().reset();
    }

    fn tell_refused(&self, name: Option<String>, refusal: Refusal, detail: &str) {
        self.http.options.observer.tell(Event::Refused {
            flow: self.flow.id,
            destination: self.flow.destination,
            name,
            refusal,
            detail: detail.to_owned(),
        });
    }

    fn route(&self, server: Option<&Server>, alpn: Alpn, protocol: Protocol) -> Route {
        let tls = server.and_then(Server::to_verify).map(|name| {
            let offers: &[Alpn] = if alpn == Alpn::None { &[] } else { &[alpn] };
            (name, self.http.options.trust.client_config(offers))
        });
        Route {
            key: self.key(server, alpn),
            protocol,
            egress: self.egress.clone(),
            grants: self.grants,
            tls,
            deadline: self.http.options.limits.head_deadline,
        }
    }

    fn key(&self, server: Option<&Server>, alpn: Alpn) -> Key {
        Key {
            destination: self.flow.destination,
            tls: server.is_some(),
            name: server.and_then(|server| server.name.clone()),
            alpn,
        }
    }

    async fn serve_plain(self, upstream: TcpStream, protocol: Protocol) {
        let alpn = if protocol == Protocol::Http2 { Alpn::Http2 } else { Alpn::Http1 };
        let route = self.route(None, alpn, protocol);
        let begun = match self.http.pool.take(&route.key) {
            Some(connection) => Ok(connection),
            None => route.begin(Box::new(upstream)).await,
        };
        let (upstream, broken) = match begun {
            Ok(connection) => (Some(connection), None),
            Err(error) => (None, Some(format!("the upstream failed: {error}"))),
        };
        let session = Session {
            http: self.http,
            middleware: self.middleware,
            flow: self.flow,
            binding: self.binding,
            server: None,
            tls: None,
            route,
            upstream: AsyncMutex::new(upstream),
            broken,
            activity: Activity::new(),
            watch: Watch::default(),
            tunnel: Mutex::default(),
        };
        serve(Arc::new(session), Box::new(self.guest)).await;
    }

    async fn serve_tls(mut self, upstream: TcpStream) {
        let deadline = self.http.options.limits.head_deadline;
        let hello = match timeout(deadline, self.guest.hello()).await {
            Ok(Ok(Ok(hello))) => hello,
            Ok(Ok(Err(reason))) => return self.refuse(None, Refusal::Malformed, reason),
            Ok(Err(_)) => return,
            Err(_) => {
                return self.refuse(None, Refusal::Malformed, "the ClientHello took too long");
            }
        };
        let server = match self.binding.server(hello.server_name.as_deref()) {
            Ok(server) => server,
            Err((refusal, detail)) => return self.refuse(hello.server_name, refusal, &detail),
        };
        if self.middleware.is_none() && self.http.options.secrets.is_empty() {
            return self.relay(upstream, &server).await;
        }
        self.intercept(upstream, &hello, server).await;
    }

    /// Lets everything through, both ways.
    async fn relay(mut self, mut upstream: TcpStream, server: &Server) {
        let meter = Meter::default();
        let joined = tunnel::join(&mut self.guest, &mut upstream, &meter).await;
        self.http.options.observer.tell(Event::Relayed {
            flow: self.flow.id,
            destination: self.flow.destination,
            name: server.name.as_ref().map(ToString::to_string),
            sent: meter.sent(),
            received: meter.received(),
        });
        if joined.is_err() {
            self.guest.into_inner().reset();
        }
    }

    async fn intercept(self, upstream: TcpStream, hello: &ClientHello, server: Server) {
        let offers: Vec<Alpn> =
            hello.alpn.iter().filter_map(|name| Alpn::from_wire(name)).collect();
        let name = Some(server.subject());
        if offers.is_empty() && !hello.alpn.is_empty() {
            return self.refuse(name, Refusal::NotHttp, "none of the offered protocols is HTTP");
        }
        let Some(upstream) = self.open_upstream(upstream, &server, &offers).await else {
            return self.refuse(name, Refusal::UpstreamTls, "the upstream does not speak HTTP/2");
        };
        let protocol = if upstream.alpn == Alpn::Http2 { Protocol::Http2 } else { Protocol::Http1 };
        // Without a word of the upstream about it, it is HTTP/1.1.
        let to_guest = match upstream.alpn {
            Alpn::None if !offers.is_empty() => Alpn::Http1,
            alpn => alpn,
        };
        let route = self.route(Some(&server), upstream.alpn, protocol);
        let (connection, broken) = match upstream.ready {
            Ready::Http(connection) => (Some(connection), None),
            Ready::Broken(why) => (None, Some(why)),
            Ready::Tls(stream) => match route.begin(stream).await {
                Ok(connection) => (Some(connection), None),
                Err(error) => (None, Some(format!("the upstream failed: {error}"))),
            },
        };
        let (guest, call) = match self.open_guest(&server, to_guest).await {
            Ok(opened) => opened,
            Err(()) => return,
        };
        let tls = Some(TlsInfo { server_name: server.name.clone(), alpn: to_guest });
        let session = Session {
            http: call.http,
            middleware: call.middleware,
            flow: call.flow,
            binding: call.binding,
            server: Some(server),
            tls,
            route,
            upstream: AsyncMutex::new(connection),
            broken,
            activity: Activity::new(),
            watch: Watch::default(),
            tunnel: Mutex::default(),
        };
        serve(Arc::new(session), guest).await;
    }

    /// Speaks TLS with the upstream, which chooses the protocol. `None` when it chose one that the
    /// guest does not speak.
    async fn open_upstream(
        &self,
        upstream: TcpStream,
        server: &Server,
        offers: &[Alpn],
    ) -> Option<Upstream> {
        let first = offers.first().copied().unwrap_or(Alpn::None);
        let kinds: &[Alpn] = if offers.is_empty() { &[Alpn::None] } else { offers };
        for &alpn in kinds {
            if let Some(connection) = self.http.pool.take(&self.key(Some(server), alpn)) {
                return Some(Upstream { alpn, ready: Ready::Http(connection) });
            }
        }
        let broken = |why: String| Some(Upstream { alpn: first, ready: Ready::Broken(why) });
        let Some(name) = server.to_verify() else {
            return broken("the name cannot be verified".to_owned());
        };
        let config = self.http.options.trust.client_config(offers);
        let deadline = self.http.options.limits.head_deadline;
        match open_tls(&name, &config, upstream, deadline).await {
            Ok((_, Alpn::None)) if !offers.is_empty() && !offers.contains(&Alpn::Http1) => None,
            Ok((stream, alpn)) => Some(Upstream { alpn, ready: Ready::Tls(stream) }),
            Err(UpstreamError::Tls(error)) => broken(format!("the upstream's TLS failed: {error}")),
            Err(error) => broken(format!("the upstream failed: {error}")),
        }
    }
}

impl Call {
    /// Speaks TLS with the guest.
    async fn open_guest(self, server: &Server, alpn: Alpn) -> Result<(AnyStream, Rest), ()> {
        let subject = server.subject();
        let config = self.http.options.authority.server_config(&subject, alpn, SystemTime::now());
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                self.refuse(Some(subject), Refusal::Name, &error.to_string());
                return Err(());
            }
        };
        let rest = Rest {
            http: self.http,
            middleware: self.middleware,
            flow: self.flow,
            binding: self.binding,
        };
        let handshake = TlsAcceptor::from(config).accept(self.guest);
        let done = timeout(rest.http.options.limits.head_deadline, handshake).await;
        let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let failed = match done {
            Ok(stream) => {
                // The library must have read the same name as we did.
                let read = stream.get_ref().1.server_name();
                let same = read.map(|name| name.trim_end_matches('.').to_ascii_lowercase())
                    == server.name.as_ref().map(|name| name.to_string());
                if same {
                    return Ok((Box::new(stream), rest));
                }
                "the SNI can be read in two ways".to_owned()
            }
            Err(error) => format!("the guest's TLS failed: {error}"),
        };
        rest.http.options.observer.tell(Event::Refused {
            flow: rest.flow.id,
            destination: rest.flow.destination,
            name: Some(subject),
            refusal: Refusal::Malformed,
            detail: failed,
        });
        Err(())
    }
}

/// What is left of a [`Call`] once its streams are in use.
struct Rest {
    http: Arc<Http>,
    middleware: Option<Arc<dyn Middleware>>,
    flow: Flow,
    binding: Binding,
}
