use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::resolver::Over;
use super::*;
use crate::flow::{Flow, FlowId, Origin, Transport};
use crate::names::{HostName, Names};
use crate::service::Resolver;
use crate::stream::GuestStream;

type Respond = dyn Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync;

/// A server on loopback, over UDP and TCP on one port.
struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn fake(respond: impl Fn(&Message, Over) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Fake {
    let respond: Arc<Respond> = Arc::new(respond);
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // The same port may be taken for the other protocol.
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, answer) = (Arc::clone(&asked), Arc::clone(&respond));
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let query = Message::from_vec(&buffer[..length]).unwrap();
            for bytes in answer(&query, Over::Udp) {
                udp.send_to(&bytes, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut bytes = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut bytes).await.unwrap();
            let query = Message::from_vec(&bytes).unwrap();
            for bytes in respond(&query, Over::Tcp) {
                stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        }
    });
    Fake { address, asked }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(address.into())))
}

fn alias(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

fn reply(query: &Message, answers: Vec<Record>) -> Message {
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    message.queries = query.queries.clone();
    message.answers = answers;
    message
}

fn bytes(message: &Message) -> Vec<Vec<u8>> {
    vec![message.to_vec().unwrap()]
}

fn ask(id: u16, text: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn flow() -> Flow {
    let source = "10.0.2.15:4000".parse().unwrap();
    let destination = "10.0.2.1:53".parse().unwrap();
    Flow { id: FlowId(1), transport: Transport::Udp, source, destination, origin: Origin::Guest }
}

fn dns(servers: &[SocketAddr], options: Options) -> (Arc<Dns>, Arc<Names>) {
    let names = Arc::new(Names::new());
    let servers = Servers::new(servers.iter().copied().map(Server::from).collect());
    (Arc::new(Dns::new(servers, Arc::clone(&names), options)), names)
}

async fn resolve(dns: &Dns, query: &[u8], over: Over) -> Message {
    Message::from_vec(&dns.resolve(&flow(), query, over).await.unwrap()).unwrap()
}

fn trusted(names: &Names, address: [u8; 4]) -> Vec<String> {
    names.names_of(IpAddr::from(address)).iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_answer_is_pinned_along_its_aliases_and_cached() {
    let server = fake(|query, _| {
        let records = vec![
            alias("Www.Example.com.", "edge.cdn.example."),
            alias("edge.cdn.example.", "node.cdn.example."),
            a("node.cdn.example.", 60, [192, 0, 2, 1]),
            a("unasked.example.", 60, [192, 0, 2, 9]),
        ];
        let mut message = reply(query, records);
        message.additionals = vec![a("api.bank.example.", 60, [192, 0, 2, 9])];
        bytes(&message)
    })
    .await;
    let (dns, names) = dns(&[server.address], Options::default());
    for id in [7, 8] {
        let message =
            resolve(&dns, &ask(id, "wWw.example.COM.", RecordType::A, None), Over::Udp).await;
        assert_eq!(message.metadata.id, id);
        assert_eq!(message.queries[0].name.to_ascii(), "wWw.example.COM.");
        assert_eq!((message.answers.len(), message.additionals.len()), (3, 0));
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    let expected = ["edge.cdn.example", "node.cdn.example", "www.example.com"];
    assert_eq!(trusted(&names, [192, 0, 2, 1]), expected);
    assert!(trusted(&names, [192, 0, 2, 9]).is_empty());
}

#[tokio::test]
async fn additional_records_count_when_the_answer_names_them() {
    let server = fake(|query, _| {
        let mail = RData::MX(MX::new(10, name("mail.example.")));
        let mut message = reply(query, vec![Record::from_rdata(name("example."), 60, mail)]);
        message.additionals =
            vec![a("mail.example.", 60, [192, 0, 2, 2]), a("other.example.", 60, [192, 0, 2, 3])];
        bytes(&message)
    })
    .await;
    let (dns, names) = dns(&[server.address], Options::default());
    let message = resolve(&dns, &ask(1, "example.", RecordType::MX, None), Over::Udp).await;
    assert_eq!(message.additionals.len(), 1);
    assert_eq!(trusted(&names, [192, 0, 2, 2]), ["mail.example"]);
    assert!(trusted(&names, [192, 0, 2, 3]).is_empty());
}

#[tokio::test]
async fn what_is_cut_off_is_asked_for_again_over_tcp() {
    let server = fake(|query, over| {
        let records: Vec<_> =
            (0..100).map(|last| a("big.example.", 60, [192, 0, 2, last])).collect();
        let message = reply(query, records);
        if over == Over::Tcp { bytes(&message) } else { bytes(&message.truncate()) }
    })
    .await;
    let (dns, _) = dns(&[server.address], Options::default());
    let plain = resolve(&dns, &ask(1, "big.example.", RecordType::A, None), Over::Udp).await;
    assert!(plain.metadata.truncation && plain.answers.is_empty());
    let large = resolve(&dns, &ask(2, "big.example.", RecordType::A, Some(4_096)), Over::Udp).await;
    assert!(!large.metadata.truncation && large.answers.len() == 100 && large.edns.is_some());
    let stream = resolve(&dns, &ask(3, "big.example.", RecordType::A, None), Over::Tcp).await;
    assert!(stream.answers.len() == 100 && stream.edns.is_none());
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_silent_broken_or_ignorant() {
    let silent = fake(|_, _| Vec::new()).await;
    let ignorant = fake(|query, _| {
        let mut message = reply(query, Vec::new());
        message.metadata.response_code = ResponseCode::ServFail;
        bytes(&message)
    })
    .await;
    let garbage =
        fake(|query, _| vec![[&query.metadata.id.to_be_bytes()[..], &[0xff; 30]].concat()]).await;
    let good =
        fake(|query, _| bytes(&reply(query, vec![a("x.example.", 60, [192, 0, 2, 1])]))).await;
    let servers = [silent.address, ignorant.address, garbage.address, good.address];
    let (dns, _) = dns(&servers, Options::default());
    let message = resolve(&dns, &ask(1, "x.example.", RecordType::A, None), Over::Udp).await;
    assert_eq!(message.answers.len(), 1);
    assert_eq!(silent.asked.load(Ordering::SeqCst), 1);
    // The one that answered is asked first from now on.
    resolve(&dns, &ask(1, "y.x.example.", RecordType::A, None), Over::Udp).await;
    assert_eq!(silent.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn answers_to_other_questions_are_not_taken() {
    let server = fake(|query, _| {
        let mut other_id = reply(query, vec![a("x.example.", 60, [192, 0, 2, 66])]);
        other_id.metadata.id ^= 1;
        let mut other_question = reply(query, vec![a("x.example.", 60, [192, 0, 2, 66])]);
        other_question.queries[0].name = name("y.example.");
        let mut no_response = reply(query, vec![a("x.example.", 60, [192, 0, 2, 66])]);
        no_response.metadata.message_type = MessageType::Query;
        let good = reply(query, vec![a("x.example.", 60, [192, 0, 2, 1])]);
        [other_id, other_question, no_response, good].iter().flat_map(bytes).collect()
    })
    .await;
    let (dns, names) = dns(&[server.address], Options::default());
    let message = resolve(&dns, &ask(1, "x.example.", RecordType::A, None), Over::Udp).await;
    assert_eq!(message.answers[0].data, RData::A(A([192, 0, 2, 1].into())));
    assert!(trusted(&names, [192, 0, 2, 66]).is_empty());
}

#[tokio::test]
async fn loops_and_lies_are_server_failures() {
    let server = fake(|query, _| {
        let asked = query.queries[0].name.to_ascii();
        match asked.as_str() {
            "loop.example." => bytes(&reply(
                query,
                vec![alias("loop.example.", "b.example."), alias("b.example.", "LOOP.example.")],
            )),
            "two.example." => bytes(&reply(
                query,
                vec![alias("two.example.", "b.example."), alias("two.example.", "c.example.")],
            )),
            "long.example." => {
                let link =
                    |at: u32| alias(&format!("n{at}.example."), &format!("n{}.example.", at + 1));
                let mut records = vec![alias("long.example.", "n0.example.")];
                records.extend((0..40).map(link));
                bytes(&reply(query, records))
            }
            _ => {
                // The owner of the record is a pointer to itself.
                let mut raw = reply(query, Vec::new()).to_vec().unwrap();
                raw[7] = 1;
                let at = u8::try_from(raw.len()).unwrap();
                raw.extend_from_slice(&[0xc0, at, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
                vec![raw]
            }
        }
    })
    .await;
    let (dns, names) = dns(&[server.address], Options::default());
    for asked in ["loop.example.", "two.example.", "long.example.", "pointer.example."] {
        let message = resolve(&dns, &ask(1, asked, RecordType::A, None), Over::Udp).await;
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail, "{asked}");
    }
    assert!(trusted(&names, [192, 0, 2, 1]).is_empty());
}

#[tokio::test]
async fn answers_that_are_too_large_are_not_taken_and_large_ones_are_fitted() {
    let server = fake(|query, over| {
        let asked = query.queries[0].name.to_ascii();
        let data = |length| RData::NULL(NULL::with(vec![7; length]));
        let record = |length| Record::from_rdata(name(&asked), 60, data(length));
        match (asked.as_str(), over) {
            // More than UDP is read for, and more than there is.
            ("huge.example.", Over::Udp) => bytes(&reply(query, vec![record(9_000)])),
            ("short.example.", Over::Udp) => {
                let mut raw = reply(query, vec![record(100)]).to_vec().unwrap();
                raw.truncate(raw.len() - 50);
                vec![raw]
            }
            ("large.example.", Over::Tcp) => bytes(&reply(query, vec![record(60_000)])),
            _ => {
                let mut message = reply(query, Vec::new());
                message.metadata.truncation = true;
                bytes(&message)
            }
        }
    })
    .await;
    let (dns, _) = dns(&[server.address], Options::default());
    for asked in ["huge.example.", "short.example."] {
        let message = resolve(&dns, &ask(1, asked, RecordType::NULL, None), Over::Udp).await;
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail, "{asked}");
    }
    let query = ask(1, "large.example.", RecordType::NULL, Some(4_096));
    let bytes = dns.resolve(&flow(), &query, Over::Udp).await.unwrap();
    assert!(bytes.len() <= 4_096 && Message::from_vec(&bytes).unwrap().metadata.truncation);
    let whole = resolve(&dns, &query, Over::Tcp).await;
    assert_eq!(whole.answers.len(), 1);
}

struct Refuses;

#[async_trait]
impl Gate for Refuses {
    async fn admit(&self, _flow: &Flow, question: &Question) -> Admission {
        Admission::Refuse { reason: format!("not {}", question.name) }
    }
}

#[tokio::test]
async fn nothing_leaves_when_the_gate_refuses() {
    let server = fake(|query, _| bytes(&reply(query, Vec::new()))).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&events);
    let observer = Observer::new(move |event| told.lock().unwrap().push(event));
    let options = Options { gate: Arc::new(Refuses), observer, ..Options::default() };
    let (dns, _) = dns(&[server.address], options);
    let message = resolve(&dns, &ask(1, "x.example.", RecordType::A, None), Over::Udp).await;
    assert_eq!(message.metadata.response_code, ResponseCode::Refused);
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    let outcome = Outcome::Refused { reason: "not x.example.".into() };
    assert_eq!(events.lock().unwrap()[0].outcome, outcome);
}

#[tokio::test]
async fn the_host_has_a_name_that_no_server_is_asked_for() {
    let server = fake(|query, _| bytes(&reply(query, Vec::new()))).await;
    let (dns, names) = dns(&[server.address], Options::default());
    let ip = |message: &Message| message.answers.first().and_then(|record| record.data.ip_addr());
    let asked = |text: &'static str, kind| ask(1, text, kind, None);
    let v4 = resolve(&dns, &asked("HOST.lanebox.internal.", RecordType::A), Over::Udp).await;
    assert_eq!(ip(&v4), Some("10.0.2.2".parse().unwrap()));
    let v6 = resolve(&dns, &asked("host.lanebox.internal.", RecordType::AAAA), Over::Udp).await;
    assert_eq!(ip(&v6), Some("fd00::2".parse().unwrap()));
    let none = resolve(&dns, &asked("host.lanebox.internal.", RecordType::MX), Over::Udp).await;
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    let other = resolve(&dns, &asked("x.lanebox.internal.", RecordType::A), Over::Udp).await;
    assert_eq!(other.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    assert!(names.trusts(&HostName::parse(HOST_NAME).unwrap(), "fd00::2".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn that_there_is_nothing_is_cached_too_and_not_for_ever() {
    let server = fake(|query, _| {
        let mut message = reply(query, Vec::new());
        message.metadata.response_code = ResponseCode::NXDomain;
        let start = SOA::new(name("ns.example."), name("root.example."), 1, 1, 1, 1, 30);
        message.authorities = vec![Record::from_rdata(name("example."), 600, RData::SOA(start))];
        bytes(&message)
    })
    .await;
    let kept = cache::Cache::default();
    let query = query::Query::read(&ask(1, "no.example.", RecordType::A, None)).unwrap();
    let message = {
        let mut message = reply(&query.to_server(1, false), Vec::new());
        message.metadata.response_code = ResponseCode::NXDomain;
        let start = SOA::new(name("ns.example."), name("root.example."), 1, 1, 1, 1, 30);
        message.authorities = vec![Record::from_rdata(name("example."), 600, RData::SOA(start))];
        message
    };
    let now = tokio::time::Instant::now();
    kept.put(cache::Key::of(&query), &message, now);
    let found = kept.get(&cache::Key::of(&query), now + Duration::from_secs(29)).unwrap();
    assert_eq!(found.authorities[0].ttl, 571);
    assert!(kept.get(&cache::Key::of(&query), now + Duration::from_secs(30)).is_none());
    drop(server);
}

#[tokio::test]
async fn unknown_types_and_many_queries_on_one_connection() {
    let server = fake(|query, _| {
        let asked = &query.queries[0];
        let data =
            RData::Unknown { code: RecordType::Unknown(65_280), rdata: NULL::with(vec![1, 2, 3]) };
        bytes(&reply(query, vec![Record::from_rdata(asked.name.clone(), 60, data)]))
    })
    .await;
    let (dns, _) = dns(&[server.address], Options::default());
    let (stream, mut guest) = GuestStream::pair().unwrap();
    let serving = Arc::clone(&dns);
    let served = tokio::spawn(async move { serving.serve(flow(), stream).await });
    let mut sent = Vec::new();
    for id in 0..100u16 {
        let query = ask(id, &format!("n{id}.example."), RecordType::Unknown(65_280), None);
        sent.extend_from_slice(&u16::try_from(query.len()).unwrap().to_be_bytes());
        sent.extend_from_slice(&query);
    }
    guest.write_all(&sent).await.unwrap();
    guest.shutdown().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..100 {
        let mut bytes = vec![0; guest.read_u16().await.unwrap().into()];
        guest.read_exact(&mut bytes).await.unwrap();
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.answers.len(), 1, "{message:?}");
        assert_eq!(
            message.queries[0].name.to_ascii(),
            format!("n{}.example.", message.metadata.id)
        );
        ids.push(message.metadata.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
    served.await.unwrap();
}

#[tokio::test]
async fn what_is_no_proper_query_is_told_so_or_ignored() {
    let server = fake(|query, _| bytes(&reply(query, Vec::new()))).await;
    let (dns, _) = dns(&[server.address], Options::default());
    let code = async |query: &[u8]| resolve(&dns, query, Over::Udp).await.metadata.response_code;
    let good = ask(1, "x.example.", RecordType::A, None);
    let changed = |at: usize, value: u8| {
        let mut query = good.clone();
        query[at] = value;
        query
    };
    assert!(dns.resolve(&flow(), &[0; 11], Over::Udp).await.is_none());
    assert!(dns.resolve(&flow(), &changed(2, 0x80), Over::Udp).await.is_none());
    assert_eq!(code(&changed(2, 0x28)).await, ResponseCode::NotImp);
    assert_eq!(code(&changed(5, 0)).await, ResponseCode::FormErr);
    assert_eq!(code(&changed(5, 2)).await, ResponseCode::FormErr);
    assert_eq!(code(&good[..good.len() - 1]).await, ResponseCode::FormErr);
    assert_eq!(code(&[&good[..], &[0; 5_000]].concat()).await, ResponseCode::FormErr);
    assert_eq!(code(&ask(1, "x.example.", RecordType::AXFR, None)).await, ResponseCode::Refused);
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn each_question_goes_to_the_servers_of_the_first_rule_that_has_its_name() {
    let answering = |last: u8| {
        fake(move |query, _| {
            let owner = query.queries[0].name.to_ascii();
            bytes(&reply(query, vec![a(&owner, 60, [192, 0, 2, last])]))
        })
    };
    let (inner, outer) = (answering(1).await, answering(2).await);
    let refused = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&refused);
    let observer = Observer::new(move |event| {
        if let Outcome::Refused { .. } = event.outcome {
            log.lock().unwrap().push(event.name);
        }
    });
    let (first, _) = dns(&[inner.address], Options { observer, ..Options::default() });
    let (second, _) = dns(&[outer.address], Options::default());
    let rules = DnsRules::new()
        .rule(Some("*.corp.example".parse().unwrap()), first)
        .rule(Some("www.example".parse().unwrap()), second.clone());
    // Whichever rule let the flow in.
    let resolver = crate::policy::DnsService::resolver(&rules, 1);
    let found = async |resolver: &dyn Resolver, text: &str| {
        let query = ask(1, text, RecordType::A, None);
        let message = resolver.answer(&flow(), query.into()).await.unwrap();
        let message = Message::from_vec(&message).unwrap();
        (message.metadata.response_code, message.answers.first().map(|record| record.data.clone()))
    };
    let at = |last| (ResponseCode::NoError, Some(RData::A(A([192, 0, 2, last].into()))));
    assert_eq!(found(&*resolver, "A.Corp.example.").await, at(1));
    assert_eq!(found(&*resolver, "www.EXAMPLE.").await, at(2));
    assert_eq!(found(&*resolver, "corp.example.").await, (ResponseCode::Refused, None));
    assert_eq!(*refused.lock().unwrap(), ["corp.example."]);
    let otherwise = rules.clone().otherwise(Some(Arc::new(Last(Ok(second.clone())))));
    assert_eq!(found(&otherwise, "corp.example.").await, at(2));
    let refusing = rules.clone().otherwise(Some(Arc::new(Last(Err("no".to_owned())))));
    assert_eq!(found(&refusing, "corp.example.").await, (ResponseCode::Refused, None));
    let all = rules.rule(None, second);
    assert_eq!(found(&all, "corp.example.").await, at(2));
}

/// The last resort of rules.
#[derive(Debug)]
struct Last(Result<Arc<Dns>, String>);

#[async_trait]
impl Otherwise for Last {
    async fn resolver(&self, _: &Flow) -> Result<Arc<Dns>, String> {
        self.0.clone()
    }
}
