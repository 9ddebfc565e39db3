//! Names, interception, middlewares and secrets: what arrives upstream, and what does not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use netstack::tls::{Alpn, Authority};
use netstack::{GATEWAY_V4, HOST_V4};
use protocol::v1;
use protocol::v1::flow_decision::Decision;
use protocol::v1::http_verdict::Verdict;
use protocol::v1::network_event::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::client::{detail, soon, until};
use crate::network_client::{
    Decider, Unbooted, World, accept, asks, attach, field, get, rule, rules, to_host,
    with_middleware,
};
use crate::servers::{Log, name_server, origin};

const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(GATEWAY_V4), 53);
const API: &str = "api.example.com";
const OTHER: &str = "other.example.com";

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// Asks the gateway's resolver.
async fn ask(world: &World, name: &str) -> (ResponseCode, Vec<IpAddr>) {
    let answer = world.guest.ask(RESOLVER, &query(name)).await;
    let answer = Message::from_vec(&answer).unwrap();
    let addresses = answer.answers.iter().filter_map(|record| record.data.ip_addr());
    (answer.metadata.response_code, addresses.collect())
}

fn found() -> (ResponseCode, Vec<IpAddr>) {
    (ResponseCode::NoError, vec![HOST_V4.into()])
}

/// DNS by this server, for these names.
fn dns(server: SocketAddr, host: &str) -> v1::NetworkRule {
    let resolvers = vec![server.to_string()];
    v1::NetworkRule { host: host.to_owned(), resolvers, ..rule(v1::AllowedTraffic::Dns) }
}

/// HTTP with a name of the host's loopback.
fn http(name: &str, port: u16) -> v1::NetworkRule {
    let host = name.to_owned();
    v1::NetworkRule { host, allow_private: true, ..to_host(v1::AllowedTraffic::Http, port) }
}

fn secret(name: &str, value: &str, host: &str) -> v1::Secret {
    let (name, value, hosts) = (name.to_owned(), value.to_owned(), vec![host.to_owned()]);
    v1::Secret { name, value, hosts, in_query: false }
}

/// What an origin was asked, one head for each request.
fn heads(log: &Log) -> Vec<String> {
    log.all().iter().map(|head| head.to_ascii_lowercase()).collect()
}

fn http_record(event: &Event) -> Option<v1::HttpRecord> {
    if let Event::Http(record) = event { Some(record.clone()) } else { None }
}

async fn records(world: &World, count: usize) -> Vec<v1::HttpRecord> {
    let all = || world.events().iter().filter_map(http_record).collect::<Vec<_>>();
    until("the requests are told", || all().len() >= count).await;
    all()
}

#[tokio::test]
async fn rules_for_names_each_have_their_servers_and_others_are_refused() {
    let (first, asked_first) = name_server(HOST_V4).await;
    let (second, asked_second) = name_server(HOST_V4).await;
    let policy = rules(vec![dns(first, API), dns(second, "*.example.com")]);
    let world = World::new(policy).await;
    assert_eq!(ask(&world, "api.example.com.").await, found());
    assert_eq!(ask(&world, "other.example.com.").await, found());
    assert_eq!(ask(&world, "example.org.").await.0, ResponseCode::Refused);
    assert_eq!(asked_first.all(), ["api.example.com."]);
    assert_eq!(asked_second.all(), ["other.example.com."]);
    let refused = |event: &Event| matches!(event, Event::Dns(record) if record.outcome() == v1::DnsOutcome::Refused);
    let Event::Dns(record) = world.told("the refusal", refused).await else { panic!("no record") };
    assert_eq!((record.name.as_str(), record.record_type.as_str()), ("example.org.", "A"));
    assert!(!record.detail.is_empty());
    let answered = |event: &Event| matches!(event, Event::Dns(record) if record.outcome() == v1::DnsOutcome::Answered);
    let Event::Dns(record) = world.told("an answer", answered).await else { panic!("no record") };
    assert_eq!(record.addresses, ["10.0.2.2"]);
}

#[tokio::test]
async fn names_that_no_rule_is_for_are_the_clients_to_decide() {
    let (server, asked) = name_server(HOST_V4).await;
    let lane = Unbooted::start().await;
    let mut decider = attach(&lane.helper, "one", 4).await.unwrap();
    let policy = v1::NetworkPolicy { rules: vec![dns(server, API)], ..asks("one") };
    let network = v1::Network { policy: Some(policy), secrets: Vec::new() };
    let world = lane.boot(network).await;
    assert_eq!(ask(&world, "api.example.com.").await, found());
    let (answer, ()) = tokio::join!(ask(&world, "other.example.com."), async {
        let (id, call) = decider.flow().await;
        assert!(call.to_resolver);
        let resolvers = vec![server.to_string()];
        decider.decide(id, Decision::Resolve(v1::ResolveFlow { resolvers }));
    });
    assert_eq!(answer, found());
    let (answer, ()) = tokio::join!(ask(&world, "third.example.com."), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, Decision::Deny(v1::DenyFlow { reason: "no".to_owned() }));
    });
    assert_eq!(answer.0, ResponseCode::Refused);
    assert_eq!(asked.all(), ["api.example.com.", "other.example.com."]);
}

#[tokio::test]
async fn client_is_asked_once_about_all_questions_of_a_connection() {
    let (server, asked) = name_server(HOST_V4).await;
    let lane = Unbooted::start().await;
    let mut decider = attach(&lane.helper, "one", 4).await.unwrap();
    let policy = v1::NetworkPolicy { rules: vec![dns(server, API)], ..asks("one") };
    let world = lane.boot(v1::Network { policy: Some(policy), secrets: Vec::new() }).await;
    let mut stream = world.guest.connect(RESOLVER).await.expect("a connection");
    for (number, name) in ["first.example.com.", "second.example.com."].into_iter().enumerate() {
        let query = query(name);
        soon(stream.write_u16(query.len().try_into().unwrap())).await.unwrap();
        soon(stream.write_all(&query)).await.unwrap();
        if number == 0 {
            let (id, call) = decider.flow().await;
            assert_eq!(call.flow.unwrap().transport(), v1::Transport::Tcp);
            let resolvers = vec![server.to_string()];
            decider.decide(id, Decision::Resolve(v1::ResolveFlow { resolvers }));
        }
        let mut answer = vec![0; soon(stream.read_u16()).await.unwrap().into()];
        soon(stream.read_exact(&mut answer)).await.unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    }
    assert_eq!(asked.all(), ["first.example.com.", "second.example.com."]);
}

/// A client that lets the resolver answer, and then what it was told of a flow to the name.
async fn named(world: &World, decider: &mut Decider, server: SocketAddr, name: &str) {
    let question = format!("{name}.");
    let (answer, ()) = tokio::join!(ask(world, &question), async {
        let (id, call) = decider.flow().await;
        assert!(call.to_resolver);
        let resolvers = vec![server.to_string()];
        decider.decide(id, Decision::Resolve(v1::ResolveFlow { resolvers }));
    });
    assert_eq!(answer, found());
}

#[tokio::test]
async fn client_is_told_the_trusted_names_and_binds_a_flow_to_one() {
    let (server, _) = name_server(HOST_V4).await;
    let (port, log) = origin(None).await;
    let (world, mut decider) = World::asking(0).await;
    named(&world, &mut decider, server, API).await;
    named(&world, &mut decider, server, OTHER).await;
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, call) = decider.flow().await;
        assert_eq!(call.names, [API, OTHER]);
        let names = vec![API.to_owned()];
        let http = v1::HttpFlow { names, allow_private: true, middleware: false };
        decider.decide(id, Decision::Http(http));
    });
    let mut stream = opened.expect("accepted");
    let answer = get(&mut stream, "GET /a HTTP/1.1\nHost: API.example.com", "for /a").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = get(&mut stream, "GET /b HTTP/1.1\nHost: other.example.com", "lanebox").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(log.all().len(), 1);
    let records = records(&world, 2).await;
    assert_eq!((records[0].status, records[0].refusal()), (200, v1::HttpRefusal::Unspecified));
    assert_eq!((records[1].status, records[1].refusal()), (403, v1::HttpRefusal::Name));
    assert_eq!((records[0].method.as_str(), records[0].path.as_str()), ("GET", "/a"));
}

#[tokio::test]
async fn a_name_that_leads_inside_needs_a_grant() {
    let (server, _) = name_server(HOST_V4).await;
    let (port, log) = origin(None).await;
    let (world, mut decider) = World::asking(0).await;
    named(&world, &mut decider, server, API).await;
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, call) = decider.flow().await;
        decider
            .decide(id, Decision::Http(v1::HttpFlow { names: call.names, ..Default::default() }));
    });
    let request = "GET / HTTP/1.1\nHost: api.example.com";
    let answer = get(&mut opened.expect("accepted"), request, "lanebox").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(records(&world, 1).await[0].refusal(), v1::HttpRefusal::Private);
    assert!(log.all().is_empty());
}

/// A connection to an origin that the client puts its middleware in.
async fn intercepted(world: &World, decider: &mut Decider, port: u16) -> UnixStream {
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, with_middleware());
    });
    opened.expect("accepted")
}

#[tokio::test]
async fn middleware_changes_answers_and_denies() {
    let (port, log) = origin(None).await;
    let (world, mut decider) = World::asking(0).await;
    let mut stream = intercepted(&world, &mut decider, port).await;
    let head = |path: &str| format!("GET {path} HTTP/1.1\nHost: 10.0.2.2\nX-Twice: 1\nX-Twice: 2");
    let (answer, flow) = tokio::join!(get(&mut stream, head("/on?q=1"), "for /on?q=1"), async {
        let (id, mut call) = decider.request().await;
        assert_eq!((call.method.as_str(), call.url.as_str()), ("GET", "http://10.0.2.2/on?q=1"));
        assert_eq!(call.protocol(), v1::HttpProtocol::Http1);
        assert_eq!((call.hostname.as_str(), call.tls.is_some()), ("", false));
        assert_eq!(call.destination.as_ref().unwrap().port, u32::from(port));
        assert_eq!(call.headers.iter().filter(|field| field.name == "x-twice").count(), 2);
        call.headers.retain(|field| field.name != "x-twice");
        call.headers.push(field("authorization", "Bearer injected"));
        call.headers.push(field("host", "elsewhere.example"));
        decider.judge(id, Verdict::Forward(v1::ForwardRequest { headers: call.headers }));
        call.flow_id
    });
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("injected"), "{answer}");
    let seen = heads(&log);
    assert!(seen[0].contains("authorization: bearer injected"), "{seen:?}");
    assert!(seen[0].contains("host: 10.0.2.2\r\n") && !seen[0].contains("x-twice"), "{seen:?}");

    let (answer, ()) = tokio::join!(get(&mut stream, head("/own"), "a body"), async {
        let (id, call) = decider.request().await;
        assert_eq!(call.flow_id, flow);
        let headers = vec![field("x-own", "yes"), field("content-length", "999")];
        let body = "a body".into();
        decider.judge(id, Verdict::Respond(v1::RespondToRequest { status: 418, headers, body }));
    });
    assert!(answer.starts_with("HTTP/1.1 418") && answer.contains("x-own: yes"), "{answer}");
    assert!(answer.contains("content-length: 6"), "{answer}");

    let (answer, ()) = tokio::join!(get(&mut stream, head("/no"), "not there"), async {
        let (id, _) = decider.request().await;
        decider.judge(id, Verdict::Deny(v1::DenyRequest { reason: "not there".to_owned() }));
    });
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(log.all().len(), 1);
    drop(stream);
    decider.released(flow).await;
    let records = records(&world, 3).await;
    assert_eq!(records.iter().map(|record| record.status).collect::<Vec<_>>(), [200, 418, 403]);
    assert_eq!(records[2].refusal(), v1::HttpRefusal::Middleware);
    assert!(records[2].detail.contains("not there") && records[0].path == "/on");
    assert_eq!(world.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn middleware_that_throws_lies_or_hangs_is_a_403_and_told() {
    let (port, log) = origin(None).await;
    let (world, mut decider) = World::asking(3_000).await;
    let status = |status| v1::RespondToRequest { status, ..v1::RespondToRequest::default() };
    let headers = vec![field("bad name", "x")];
    let wrong = [
        (None, "empty answer"),
        (Some(v1::network_answer::Answer::Problem("thrown".to_owned())), "thrown"),
        (crate::network_client::decided(accept()), "a decision about a flow"),
        (judged(Verdict::Respond(status(99))), "not from 200 to 599"),
        (judged(Verdict::Respond(status(101))), "not from 200 to 599"),
        (judged(Verdict::Forward(v1::ForwardRequest { headers })), "bad name"),
    ];
    for (answer, said) in wrong {
        let mut stream = intercepted(&world, &mut decider, port).await;
        let request = "GET /x HTTP/1.1\nHost: 10.0.2.2";
        let (reply, ()) = tokio::join!(get(&mut stream, request, "lanebox"), async {
            let (id, _) = decider.request().await;
            decider.answer(id, answer);
        });
        assert!(reply.starts_with("HTTP/1.1 403"), "{said}: {reply}");
        until(said, || world.faults().iter().any(|told| told.contains(said))).await;
    }
    let mut hangs = intercepted(&world, &mut decider, port).await;
    let request = "GET /hangs HTTP/1.1\nHost: 10.0.2.2";
    let (reply, ()) = tokio::join!(get(&mut hangs, request, "lanebox"), async {
        let (_, call) = decider.request().await;
        assert!(call.url.ends_with("/hangs"));
    });
    assert!(reply.starts_with("HTTP/1.1 403"), "{reply}");
    until("the deadline is told", || {
        world
            .faults()
            .iter()
            .any(|told| told.contains("GET 10.0.2.2/hangs") && told.contains("3000"))
    })
    .await;
    assert!(log.all().is_empty(), "{:?}", log.all());
}

fn judged(verdict: Verdict) -> Option<v1::network_answer::Answer> {
    let verdict = v1::HttpVerdict { verdict: Some(verdict) };
    Some(v1::network_answer::Answer::Verdict(verdict))
}

#[tokio::test]
async fn a_secret_goes_to_its_host_and_the_guest_has_a_placeholder() {
    const VALUE: &str = "s3cret-of-the-origin";
    let (server, _) = name_server(HOST_V4).await;
    let (port, log) = origin(None).await;
    let policy = rules(vec![dns(server, ""), http("*.example.com", port)]);
    let secrets = vec![secret("TOKEN", VALUE, API)];
    let world = World::booted(v1::Network { policy: Some(policy), secrets }).await;
    let placeholder = world.told.env["TOKEN"].clone();
    assert!(placeholder.starts_with("lanebox-placeholder-"), "{placeholder}");
    assert_eq!(world.told.env["PLAIN"], "kept");
    assert!(!format!("{:?}", world.told).contains(VALUE));
    ask(&world, "api.example.com.").await;
    ask(&world, "other.example.com.").await;
    let request =
        |host: &str| format!("GET / HTTP/1.1\nHost: {host}\nAuthorization: Bearer {placeholder}");
    let mut stream = world.connect(port).await.expect("accepted");
    let answer = get(&mut stream, request(API), "asked for /").await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(VALUE), "{answer}");
    let seen = heads(&log);
    assert!(seen[0].contains(&format!("authorization: bearer {VALUE}")), "{seen:?}");
    let mut stream = world.connect(port).await.expect("accepted");
    let answer = get(&mut stream, request(OTHER), "lanebox").await;
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains(VALUE), "{answer}");
    assert_eq!(log.all().len(), 1);
    let records = records(&world, 2).await;
    assert!(records.iter().any(|record| record.refusal() == v1::HttpRefusal::Secret));
    assert!(!format!("{:?}", world.events()).contains(VALUE));
    // They stay with the lane when its policy changes.
    let policy = rules(vec![http(API, port)]);
    world.set_policy(policy).await.unwrap();
    let mut stream = world.connect(port).await.expect("accepted");
    get(&mut stream, request(API), "asked for /").await;
    assert!(heads(&log)[1].contains(VALUE));
}

#[tokio::test]
async fn secrets_that_cannot_be_are_refused_without_their_value() {
    const VALUE: &str = "never-shown\u{7f}";
    let lane = Unbooted::start().await;
    let mut helper = lane.helper;
    let mut request = helper.files.request();
    let secrets = vec![secret("GOOD", "x", API), secret("TOKEN", VALUE, API)];
    request.network = Some(v1::Network { policy: None, secrets });
    let error = detail(soon(helper.sandbox.boot(request.clone())).await);
    assert!(error.message.starts_with("network.secrets[1].value is"), "{error:?}");
    assert!(!error.message.contains("never-shown"), "{error:?}");
    request.env.insert("TOKEN".to_owned(), "mine".to_owned());
    request.network.as_mut().unwrap().secrets[1].value = "fine".to_owned();
    let error = detail(soon(helper.sandbox.boot(request)).await);
    assert!(error.message.starts_with("network.secrets[1].name is \"TOKEN\""), "{error:?}");
}

/// Speaks TLS, trusting what the guest was told to trust.
async fn tls(world: &World, port: u16) -> std::io::Result<TlsStream<UnixStream>> {
    let pem = &world.told.network.as_ref().unwrap().certificate_authority;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = world.connect(port).await.expect("accepted");
    soon(TlsConnector::from(Arc::new(config)).connect(API.try_into().unwrap(), stream)).await
}

#[tokio::test]
async fn tls_is_opened_for_the_guest_and_verified_upstream_with_the_policys_roots() {
    let now = SystemTime::now();
    let authority = Authority::new(now).unwrap();
    let config = authority.server_config(API, Alpn::Http1, now).unwrap();
    let (server, _) = name_server(Ipv4Addr::new(10, 0, 2, 2)).await;
    let (port, log) = origin(Some(config)).await;
    let injecting = v1::NetworkRule {
        headers: vec![field("authorization", "Bearer of-the-rule")],
        ..http(API, port)
    };
    let mut policy = rules(vec![dns(server, ""), injecting]);
    policy.extra_roots = vec![authority.certificate_pem().to_owned()];
    let world = World::new(policy.clone()).await;
    ask(&world, "api.example.com.").await;
    let mut stream = tls(&world, port).await.expect("a certificate that is trusted");
    let answer = get(&mut stream, "GET /tls HTTP/1.1\nHost: api.example.com", "for /tls").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(heads(&log)[0].contains("authorization: bearer of-the-rule"));
    // Without them the upstream is not believed, and the credential stays here.
    policy.extra_roots.clear();
    world.set_policy(policy).await.unwrap();
    let mut stream = tls(&world, port).await.expect("the guest is told in HTTP");
    let answer = get(&mut stream, "GET /tls HTTP/1.1\nHost: api.example.com", "lanebox").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(log.all().len(), 1);
    let records = records(&world, 2).await;
    assert_eq!(records[1].refusal(), v1::HttpRefusal::UpstreamTls);
}
