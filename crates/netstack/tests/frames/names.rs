//! DNS name = SNI = `Host` = dialled address, from the guest's question to the origin's log.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use http::{HeaderMap, HeaderValue};
use netstack::device::Device;
use netstack::dns::{Dns, HOST_NAME, Server, Servers};
use netstack::http::{Http, HttpRules, Refusal, Secrets, SetHeaders};
use netstack::names::Names;
use netstack::policy::{Allow, Rule, Rules, Services};
use netstack::tls::{Alpn, Authority, Trust};
use netstack::{
    Config, DenyReason, Event, GATEWAY_V4, HOST_V4, HOST_V6, Observer, Stack, dns, http as web,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::card::MTU;
use crate::guest::{Guest, PATIENCE};
use crate::servers::{Log, name_server, origin};

const API: &str = "api.example.com";
const OTHER: &str = "other.example.com";
const CREDENTIAL: &str = "Bearer for-the-origin-only";
/// Where the guest's resolver listens.
const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(GATEWAY_V4), 53);

/// A guest that may ask for names, and speak HTTP with one of them.
struct World {
    guest: Guest,
    stack: Stack,
    authority: Arc<Authority>,
    asked: Log,
    plain: (u16, Log),
    secure: (u16, Log),
    denied: Arc<Mutex<Vec<(SocketAddr, DenyReason)>>>,
    refused: Arc<Mutex<Vec<Refusal>>>,
}

impl World {
    /// `private`: whether the name may lead to an address that is not public.
    async fn new(host: &str, private: bool) -> Self {
        let now = SystemTime::now();
        let roots = Authority::new(now).expect("an authority");
        let config = roots.server_config(API, Alpn::Http1, now).expect("a certificate");
        let (server, asked) = name_server(HOST_V4).await;
        let (plain, secure) = (origin(None).await, origin(Some(config)).await);
        let names = Arc::new(Names::new());
        let servers = Servers::new(vec![Server::from(server)]);
        let resolver = Dns::new(servers, Arc::clone(&names), dns::Options::default());
        let authority = Arc::new(Authority::new(now).expect("an authority"));
        let refused = Arc::<Mutex<Vec<_>>>::default();
        let http = Http::new(web::Options {
            names: Arc::clone(&names),
            authority: Arc::clone(&authority),
            trust: Arc::new(Trust::only(&[roots.certificate_pem()]).expect("a root")),
            secrets: Arc::new(Secrets::default()),
            limits: web::Limits::default(),
            observer: refusals(Arc::clone(&refused)),
        });
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(CREDENTIAL));
        let middleware = Some(Arc::new(SetHeaders::new(headers)) as _);
        let http = HttpRules::new(http).rule(false, None).rule(private, middleware);
        let mut rule = Rule::new(Allow::Http);
        rule.host = Some(host.parse().expect("a host"));
        rule.ports = vec![plain.0..=plain.0, secure.0..=secure.0];
        rule.allow_private = private;
        let services = Services {
            dns: Some(Arc::new(Arc::new(resolver))),
            names: Some(names),
            http: Some(Arc::new(http)),
        };
        let policy = Rules::new(vec![Rule::new(Allow::Dns), rule], services, None);
        let denied = Arc::<Mutex<Vec<_>>>::default();
        let told = Arc::clone(&denied);
        let observer = Observer::new(move |event| {
            if let Event::Denied { flow, reason, .. } = event {
                told.lock().expect("not held").push((flow.destination, reason));
            }
        });
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("two sockets");
        ours.set_nonblocking(true).expect("a mode");
        let config = Config { mtu: MTU, ..Config::default() };
        let device = Device::frame_socket(theirs).expect("a device");
        let stack = Stack::start(config, device, Arc::new(policy), observer, &Handle::current());
        let guest = Guest::start(UnixStream::from_std(ours).expect("a socket"));
        let stack = stack.expect("a stack");
        Self { guest, stack, authority, asked, plain, secure, denied, refused }
    }

    /// The addresses that the resolver gives for a name.
    async fn resolve(&self, name: &str, kind: RecordType) -> Vec<IpAddr> {
        let answer = self.guest.ask(RESOLVER, &query(name, kind)).await;
        addresses(&answer)
    }

    /// The same over TCP.
    async fn resolve_over_tcp(&self, name: &str, kind: RecordType) -> Vec<IpAddr> {
        let mut stream = self.guest.connect(RESOLVER).await.expect("a connection");
        let query = query(name, kind);
        stream.write_u16(query.len().try_into().expect("short")).await.expect("taken");
        stream.write_all(&query).await.expect("taken");
        let answer = async {
            let mut answer = vec![0; stream.read_u16().await.expect("a length").into()];
            stream.read_exact(&mut answer).await.expect("an answer");
            answer
        };
        addresses(&timeout(PATIENCE, answer).await.expect("an answer"))
    }

    async fn connect(&self, port: u16) -> std::io::Result<UnixStream> {
        self.guest.connect(SocketAddr::new(HOST_V4.into(), port)).await
    }

    /// Connects to the origin that speaks TLS, trusting what guests are told to trust.
    async fn connect_tls(&self, sni: &'static str) -> std::io::Result<TlsStream<UnixStream>> {
        let pem = self.authority.certificate_pem().as_bytes();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem).expect("PEM")).expect("a root");
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = self.connect(self.secure.0).await.expect("a connection");
        let name = sni.try_into().expect("a name");
        let opening = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(PATIENCE, opening).await.expect("an outcome")
    }

    fn refusals(&self) -> Vec<Refusal> {
        self.refused.lock().expect("not held").clone()
    }

    async fn end(self) {
        let ended = timeout(PATIENCE, self.stack.shutdown()).await;
        ended.expect("it ends").expect("it had not failed");
    }
}

fn refusals(told: Arc<Mutex<Vec<Refusal>>>) -> web::Observer {
    web::Observer::new(move |event| {
        let refusal = match event {
            web::Event::Request(record) => record.refusal,
            web::Event::Refused { refusal, .. } => Some(refusal),
            _ => None,
        };
        told.lock().expect("not held").extend(refusal);
    })
}

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.to_vec().expect("a query")
}

fn addresses(answer: &[u8]) -> Vec<IpAddr> {
    let message = Message::from_vec(answer).expect("a message");
    assert_eq!(message.metadata.id, 7);
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    message.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

/// Asks for a path, and reads until the text has come or the connection has ended.
async fn get<S>(stream: &mut S, path: &str, host: &str, until: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&answer).contains(until) {
            match stream.read_buf(&mut answer).await {
                Ok(1..) => {}
                _ => break,
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer or an end");
    String::from_utf8(answer).expect("text")
}

/// What an origin saw: one request for the path, with the credential.
fn assert_seen(log: &Log, path: &str) {
    let heads = log.all();
    assert_eq!(heads.len(), 1, "{heads:?}");
    let head = heads[0].to_ascii_lowercase();
    assert!(head.starts_with(&format!("get {path} http/1.1\r\n")), "{head}");
    let field = format!("authorization: {}\r\n", CREDENTIAL.to_ascii_lowercase());
    assert!(head.contains(&field), "{head}");
}

#[tokio::test]
async fn a_resolved_name_leads_to_its_origin_with_a_header_that_the_guest_never_sees() {
    let world = World::new(API, true).await;
    // Before the name has been asked for, its address is one like any other.
    world.connect(world.plain.0).await.expect_err("no name leads there");
    let destination = SocketAddr::new(HOST_V4.into(), world.plain.0);
    assert_eq!(*world.denied.lock().expect("not held"), [(destination, DenyReason::Policy)]);
    assert_eq!(world.resolve("API.example.com.", RecordType::A).await, [IpAddr::from(HOST_V4)]);
    assert_eq!(world.asked.all(), ["api.example.com."]);

    let mut stream = world.connect(world.plain.0).await.expect("a connection");
    let answer = get(&mut stream, "/plain", API, "asked for /plain").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains(CREDENTIAL), "{answer}");
    assert_seen(&world.plain.1, "/plain");

    let mut stream = world.connect_tls(API).await.expect("a certificate that is trusted");
    let answer = get(&mut stream, "/secure", API, "asked for /secure").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains(CREDENTIAL), "{answer}");
    assert_seen(&world.secure.1, "/secure");
    assert_eq!(world.refusals(), []);
    world.end().await;
}

#[tokio::test]
async fn another_name_of_the_same_address_gets_nowhere() {
    let world = World::new(API, true).await;
    for name in ["api.example.com.", "other.example.com."] {
        assert_eq!(world.resolve_over_tcp(name, RecordType::A).await, [IpAddr::from(HOST_V4)]);
    }
    assert_eq!(world.asked.all(), ["api.example.com.", "other.example.com."]);
    for host in [OTHER, "never-asked.example.com", "10.0.2.2"] {
        let mut stream = world.connect(world.plain.0).await.expect("a connection");
        let answer = get(&mut stream, "/", host, "lanebox").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
    }
    for sni in [OTHER, "never-asked.example.com"] {
        world.connect_tls(sni).await.expect_err("no handshake for another name");
    }
    let mut stream = world.connect_tls(API).await.expect("a handshake for the right one");
    let answer = get(&mut stream, "/", OTHER, "lanebox").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(world.refusals(), [Refusal::Name; 6]);
    for log in [&world.plain.1, &world.secure.1] {
        assert!(log.all().is_empty(), "{:?}", log.all());
    }
    world.end().await;
}

#[tokio::test]
async fn a_public_name_that_leads_to_the_host_is_a_rebinding() {
    let world = World::new(API, false).await;
    assert_eq!(world.resolve("api.example.com.", RecordType::A).await, [IpAddr::from(HOST_V4)]);
    world.connect(world.plain.0).await.expect_err("the address is not public");
    assert!(world.plain.1.all().is_empty());
    world.end().await;
}

#[tokio::test]
async fn the_hosts_own_name_needs_no_server_and_leads_to_its_loopback() {
    let world = World::new(HOST_NAME, false).await;
    let name = format!("{HOST_NAME}.");
    assert_eq!(world.resolve(&name, RecordType::A).await, [IpAddr::from(HOST_V4)]);
    assert_eq!(world.resolve(&name, RecordType::AAAA).await, [IpAddr::from(HOST_V6)]);
    assert!(world.asked.all().is_empty());
    let mut stream = world.connect(world.plain.0).await.expect("a connection");
    let answer = get(&mut stream, "/host", HOST_NAME, "asked for /host").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_seen(&world.plain.1, "/host");
    world.end().await;
}
