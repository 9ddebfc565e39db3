//! The guest's side and the origin's side.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use http::{HeaderValue, Request as HttpRequest, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::super::upstream::AnyStream;
use super::super::*;
use crate::egress::{Egress, EgressOptions};
use crate::flow::{Flow, FlowId, Origin, Transport};
use crate::link::HOST_V4;
use crate::names::{HostName, Names};
use crate::policy::Grants;
use crate::service::Intercepted;
use crate::stream::GuestStream;
use crate::tls::{Alpn, Authority, Trust};

pub(super) const NAME: &str = "api.example.com";
const GENEROUS: Duration = Duration::from_secs(60);

/// What the origin saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: Mutex<Vec<http::request::Parts>>,
    pub(super) connections: AtomicUsize,
    /// Requests for `/reluctant` that are refused before one is answered; of HTTP/1.1, by an end of
    /// the connection.
    pub(super) reluctance: AtomicUsize,
    /// Connections that end at their first request before one is served.
    pub(super) goodbyes: AtomicUsize,
}

pub(super) struct World {
    pub(super) http: Arc<Http>,
    pub(super) authority: Arc<Authority>,
    pub(super) events: Arc<Mutex<Vec<Event>>>,
    pub(super) seen: Arc<Seen>,
    origin: SocketAddr,
    egress: Egress,
}

pub(super) struct Setup {
    pub(super) origin: Option<Alpn>,
    pub(super) trusted: bool,
    pub(super) secrets: Secrets,
    pub(super) limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        Self { origin: None, trusted: true, secrets: Secrets::default(), limits: Limits::default() }
    }
}

impl World {
    pub(super) async fn new(setup: Setup) -> Self {
        let now = SystemTime::now();
        let roots = Authority::new(now).unwrap();
        let pem = roots.certificate_pem().to_owned();
        let trust = if setup.trusted { Trust::only(&[pem]) } else { Trust::only::<&str>(&[]) };
        let seen = Arc::new(Seen::default());
        let config = setup.origin.map(|alpn| roots.server_config(NAME, alpn, now).unwrap());
        let tls = config.map(|config| (TlsAcceptor::from(config), setup.origin.unwrap()));
        let origin = origin(tls, Arc::clone(&seen)).await;
        let names = Arc::new(Names::new());
        for name in [NAME, "other.example.com"] {
            names.pin(&HostName::parse(name).unwrap(), HOST_V4.into(), Duration::ZERO);
        }
        let authority = Arc::new(Authority::new(now).unwrap());
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let http = Http::new(Options {
            names,
            authority: Arc::clone(&authority),
            trust: Arc::new(trust.unwrap()),
            secrets: Arc::new(setup.secrets),
            limits: setup.limits,
            observer: Observer::new(move |event| told.lock().unwrap().push(event)),
        });
        let egress = Egress::new(EgressOptions::default());
        Self { http, authority, events, seen, origin, egress }
    }

    /// A connection of the guest to the origin.
    pub(super) async fn connect(
        &self,
        target: Target,
        code: Option<Arc<dyn Middleware>>,
    ) -> UnixStream {
        let destination = SocketAddr::new(HOST_V4.into(), self.origin.port());
        let (guest, client) = GuestStream::pair().unwrap();
        let source = SocketAddr::new(IpAddr::from([10, 0, 2, 15]), 40_000);
        let flow = Flow {
            id: FlowId(7),
            transport: Transport::Tcp,
            source,
            destination,
            origin: Origin::Guest,
        };
        let grants = Grants::default();
        let upstream = self.egress.connect(destination, grants).await.unwrap();
        let egress = self.egress.clone();
        let interceptor = self.http.interceptor(target, code);
        tokio::spawn(async move {
            interceptor.serve(Intercepted { flow, grants, guest, upstream, egress }).await;
        });
        client
    }

    /// The same, with the guest's TLS on it.
    pub(super) async fn connect_tls(
        &self,
        offers: &[Alpn],
        code: Option<Arc<dyn Middleware>>,
    ) -> (AnyStream, Alpn) {
        let client = self.connect(named(), code).await;
        let trust = Trust::only(&[self.authority.certificate_pem()]).unwrap();
        let name = NAME.try_into().unwrap();
        let config = trust.client_config(offers);
        super::super::upstream::open_tls(&name, &config, client, GENEROUS).await.unwrap()
    }

    /// The first event of a kind, waited for.
    pub(super) async fn event<T>(&self, find: impl Fn(&Event) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = self.events.lock().unwrap().iter().find_map(&find) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(GENEROUS, wait).await.expect("the event never came")
    }

    pub(super) async fn refusal(&self) -> Refusal {
        self.event(|event| match event {
            Event::Refused { refusal, .. } => Some(*refusal),
            Event::Request(record) => record.refusal,
            _ => None,
        })
        .await
    }

    /// The port that the origin listens on.
    pub(super) fn port(&self) -> u16 {
        self.origin.port()
    }

    pub(super) fn header_seen(&self, request: usize, name: &str) -> Option<String> {
        let requests = self.seen.requests.lock().unwrap();
        Some(requests[request].headers.get(name)?.to_str().unwrap().to_owned())
    }
}

pub(super) fn named() -> Target {
    Target::Named { host: "api.example.com".parse().unwrap(), allow_private: true }
}

/// Sends bytes, then reads until the text has arrived or the stream has ended.
pub(super) async fn talk<S>(stream: &mut S, send: &[u8], until: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // A connection that is refused may be gone before all is written.
    let _ = stream.write_all(send).await;
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(until) {
            match stream.read_buf(&mut read).await {
                Ok(length) if length > 0 => (),
                _ => break,
            }
        }
    };
    timeout(GENEROUS, reading).await.expect("no end and no answer");
    String::from_utf8_lossy(&read).into_owned()
}

/// Middleware made of a function.
pub(super) struct Code<F>(pub(super) F);

#[async_trait]
impl<F> Middleware for Code<F>
where
    F: Fn(&mut Request) -> Verdict + Send + Sync + 'static,
{
    async fn handle(&self, request: &mut Request) -> Verdict {
        (self.0)(request)
    }
}

pub(super) fn code(
    run: impl Fn(&mut Request) -> Verdict + Send + Sync + 'static,
) -> Option<Arc<dyn Middleware>> {
    Some(Arc::new(Code(run)))
}

pub(super) fn inject() -> Option<Arc<dyn Middleware>> {
    code(|request| {
        request.headers.insert("authorization", HeaderValue::from_static("Bearer injected-value"));
        Verdict::Forward
    })
}

async fn origin(tls: Option<(TlsAcceptor, Alpn)>, seen: Arc<Seen>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (seen, tls) = (Arc::clone(&seen), tls.clone());
            tokio::spawn(async move {
                let stream: AnyStream = match &tls {
                    None => Box::new(stream),
                    Some((tls, _)) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let http2 = tls.is_some_and(|(_, alpn)| alpn == Alpn::Http2);
                serve_origin(stream, http2, seen).await;
            });
        }
    });
    address
}

/// Whether one of so many is left. Takes it.
fn takes_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// HTTP/2 up to the first request, and the word that it has not been looked at (RFC 9113, 6.8).
async fn say_goodbye(mut stream: AnyStream) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.read_exact(&mut vec![0; preface.len()]).await.unwrap();
    stream.write_all(&SETTINGS).await.unwrap();
    let mut head = [0; 9];
    while head[3] != HEADERS {
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    }
    stream.write_all(&GOAWAY).await.unwrap();
    stream.flush().await.unwrap();
    // The other side ends the connection.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

async fn serve_origin(stream: AnyStream, http2: bool, seen: Arc<Seen>) {
    if http2 && takes_one(&seen.goodbyes) {
        return say_goodbye(stream).await;
    }
    let counted = Arc::new(AtomicUsize::new(0));
    let service = service_fn(move |request| {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            seen.connections.fetch_add(1, Ordering::SeqCst);
        }
        let seen = Arc::clone(&seen);
        async move { respond(request, &seen) }
    });
    let io = TokioIo::new(stream);
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(io, service).await;
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.serve_connection(io, service).with_upgrades().await;
    }
}

fn respond(mut request: HttpRequest<Incoming>, seen: &Seen) -> Result<Response<Body>, h2::Error> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    seen.requests.lock().unwrap().push(parts.clone());
    let mut response = Response::new(full(format!("you asked for {}", parts.uri.path())));
    match parts.uri.path() {
        "/echo" => {
            *response.body_mut() = body.map_err(Into::into).boxed_unsync();
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        }
        "/reluctant" if takes_one(&seen.reluctance) => {
            return Err(h2::Reason::REFUSED_STREAM.into());
        }
        "/redirect" => {
            let token = parts.headers["authorization"].to_str().unwrap();
            *response.status_mut() = StatusCode::FOUND;
            let headers = response.headers_mut();
            headers.insert("location", "/next".parse().unwrap());
            headers.insert("x-echo", token.parse().unwrap());
            headers.append("set-cookie", "a=1".parse().unwrap());
            headers.append("set-cookie", "b=2".parse().unwrap());
            headers.insert("alt-svc", "h3=\":443\"".parse().unwrap());
        }
        "/socket" => {
            tokio::spawn(async move {
                let (mut reader, mut writer) =
                    tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                let _ = writer.shutdown().await;
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.body_mut() = full("");
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        }
        _ => (),
    }
    Ok(response)
}
