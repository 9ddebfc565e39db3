//! A lane with a network, as the guest's programs and the deciding client see it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use netstack::HOST_V4;
use protocol::guest::v1::ConfigureRequest;
use protocol::v1;
use protocol::v1::flow_decision::Decision;
use protocol::v1::http_verdict::Verdict;
use protocol::v1::network_answer::Answer;
use protocol::v1::network_call::Call;
use protocol::v1::network_event::Event;
use protocol::v1::serve_network_request::Request;
use protocol::v1::serve_network_response::Response;
use smoltcp::wire::EthernetAddress;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use crate::client::{Helper, soon, until};
use crate::guest::Script;
use crate::net_guest::Guest;

/// A stream of the client that decides.
pub(crate) struct Decider {
    say: mpsc::UnboundedSender<v1::ServeNetworkRequest>,
    hear: Streaming<v1::ServeNetworkResponse>,
}

/// Opens a stream that begins with these.
pub(crate) async fn open(helper: &Helper, first: Vec<Request>) -> Result<Decider, Status> {
    let (say, said) = mpsc::unbounded_channel();
    for request in first {
        say.send(v1::ServeNetworkRequest { request: Some(request) }).unwrap();
    }
    let mut client = helper.network.clone();
    let hear = soon(client.serve_network(UnboundedReceiverStream::new(said))).await?.into_inner();
    Ok(Decider { say, hear })
}

/// Attaches, and waits for `attached`.
pub(crate) async fn attach(helper: &Helper, id: &str, credits: u32) -> Result<Decider, Status> {
    let attach = v1::AttachNetwork { id: id.to_owned(), credits };
    let mut decider = open(helper, vec![Request::Attach(attach)]).await?;
    let first = decider.next().await?;
    assert!(matches!(first, Some(Response::Attached(_))), "{first:?}");
    Ok(decider)
}

impl Decider {
    /// What comes next, if anything does.
    pub(crate) async fn next(&mut self) -> Result<Option<Response>, Status> {
        Ok(soon(self.hear.message()).await?.map(|message| message.response.unwrap()))
    }

    /// The next question. Releases and cancellations before it are passed over.
    pub(crate) async fn question(&mut self) -> (u64, Call) {
        loop {
            match self.next().await {
                Ok(Some(Response::Call(call))) => return (call.id, call.call.unwrap()),
                Ok(Some(Response::Cancel(_) | Response::Released(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next question, which is about a flow.
    pub(crate) async fn flow(&mut self) -> (u64, v1::DecideFlowCall) {
        match self.question().await {
            (id, Call::Decide(call)) => (id, call),
            other => panic!("{other:?}"),
        }
    }

    /// The next question, which is about a request.
    pub(crate) async fn request(&mut self) -> (u64, v1::HttpRequestCall) {
        match self.question().await {
            (id, Call::Http(call)) => (id, call),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn answer(&self, id: u64, answer: Option<Answer>) {
        self.say(Request::Answer(v1::NetworkAnswer { id, answer }));
    }

    pub(crate) fn decide(&self, id: u64, decision: Decision) {
        self.answer(id, decided(decision));
    }

    pub(crate) fn judge(&self, id: u64, verdict: Verdict) {
        let verdict = v1::HttpVerdict { verdict: Some(verdict) };
        self.answer(id, Some(Answer::Verdict(verdict)));
    }

    pub(crate) fn say(&self, request: Request) {
        // The stream may have ended.
        let _ = self.say.send(v1::ServeNetworkRequest { request: Some(request) });
    }

    /// Waits for the flow's release.
    pub(crate) async fn released(&mut self, flow: u64) {
        loop {
            match self.next().await {
                Ok(Some(Response::Released(released))) if released.flow_id == flow => return,
                Ok(Some(Response::Cancel(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for the stream's end, which must be a good one.
    pub(crate) async fn ended(mut self) {
        while self.next().await.unwrap().is_some() {}
    }
}

pub(crate) fn decided(decision: Decision) -> Option<Answer> {
    Some(Answer::Decision(v1::FlowDecision { decision: Some(decision) }))
}

pub(crate) fn accept() -> Decision {
    Decision::Accept(v1::AcceptFlow::default())
}

/// HTTP for the address, with every request asked about.
pub(crate) fn with_middleware() -> Decision {
    Decision::Http(v1::HttpFlow { middleware: true, ..v1::HttpFlow::default() })
}

/// A policy that asks this stream about everything.
pub(crate) fn asks(id: &str) -> v1::NetworkPolicy {
    let callbacks = v1::NetworkCallbacks { id: id.to_owned(), deadline_ms: 0 };
    v1::NetworkPolicy { callbacks: Some(callbacks), ..v1::NetworkPolicy::default() }
}

/// A rule without conditions.
pub(crate) fn rule(allow: v1::AllowedTraffic) -> v1::NetworkRule {
    v1::NetworkRule { allow: allow.into(), ..v1::NetworkRule::default() }
}

/// A rule for the host's loopback.
pub(crate) fn to_host(allow: v1::AllowedTraffic, port: u16) -> v1::NetworkRule {
    let ports = vec![v1::PortRange { first: port.into(), last: port.into() }];
    v1::NetworkRule { to: vec![HOST_V4.to_string()], ports, ..rule(allow) }
}

pub(crate) fn rules(rules: Vec<v1::NetworkRule>) -> v1::NetworkPolicy {
    v1::NetworkPolicy { rules, ..v1::NetworkPolicy::default() }
}

/// A port of the host's loopback, as the guest names it.
pub(crate) fn host(port: u16) -> SocketAddr {
    SocketAddr::new(HOST_V4.into(), port)
}

/// A lane whose machine runs, with a guest on its network.
pub(crate) struct World {
    pub(crate) helper: Helper,
    pub(crate) guest: Guest,
    pub(crate) told: ConfigureRequest,
    events: Arc<Mutex<Vec<v1::watch_response::Event>>>,
}

/// A helper before its boot.
pub(crate) struct Unbooted {
    pub(crate) helper: Helper,
    told: Arc<Mutex<Option<ConfigureRequest>>>,
}

impl Unbooted {
    pub(crate) async fn start() -> Self {
        let told = Arc::<Mutex<Option<_>>>::default();
        let mut script = Script::default();
        let (configure, kept) = (script.configure.clone(), Arc::clone(&told));
        script.configure = Arc::new(move |request| {
            *kept.lock().unwrap() = Some(request.clone());
            configure(request)
        });
        Self { helper: Helper::start(script).await, told }
    }

    pub(crate) async fn boot(mut self, network: v1::Network) -> World {
        let events = watch(&self.helper).await;
        let mut request = self.helper.files.request();
        request.network = Some(network);
        request.env.insert("PLAIN".to_owned(), "kept".to_owned());
        soon(self.helper.sandbox.boot(request)).await.unwrap();
        let device = self.helper.engine.network().expect("a device");
        assert_eq!((device.mac, device.mtu), ([0x02, 0x6c, 0x62, 0, 0, 0x15], 65_520));
        device.frames.set_nonblocking(true).unwrap();
        let frames = UnixStream::from_std(device.frames).unwrap();
        let guest = Guest::start_as(frames, EthernetAddress(device.mac));
        let told = self.told.lock().unwrap().take().unwrap();
        World { helper: self.helper, guest, told, events }
    }
}

impl World {
    /// Boots with this policy.
    pub(crate) async fn new(policy: v1::NetworkPolicy) -> Self {
        Self::booted(v1::Network { policy: Some(policy), secrets: Vec::new() }).await
    }

    /// Boots with this network.
    pub(crate) async fn booted(network: v1::Network) -> Self {
        Unbooted::start().await.boot(network).await
    }

    /// Boots with a policy that asks one stream.
    pub(crate) async fn asking(deadline_ms: u32) -> (Self, Decider) {
        let lane = Unbooted::start().await;
        let decider = attach(&lane.helper, "one", 8).await.unwrap();
        let mut policy = asks("one");
        policy.callbacks.as_mut().unwrap().deadline_ms = deadline_ms;
        (lane.boot(v1::Network { policy: Some(policy), secrets: Vec::new() }).await, decider)
    }

    /// What has been told of the network so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        let events = self.events.lock().unwrap();
        let network = |event: &v1::watch_response::Event| match event {
            v1::watch_response::Event::Network(event) => event.event.clone(),
            _ => None,
        };
        events.iter().filter_map(network).collect()
    }

    /// Waits until something has been told.
    pub(crate) async fn told(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let mut found = None;
        until(what, || {
            found = self.events().into_iter().find(|event| wanted(event));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// The denial of the flow to this port.
    pub(crate) async fn denial(&self, port: u16) -> v1::FlowDenied {
        let is = |denied: &v1::FlowDenied| {
            let flow = denied.flow.as_ref().unwrap();
            flow.destination.as_ref().unwrap().port == u32::from(port)
        };
        let wanted = |event: &Event| matches!(event, Event::Denied(denied) if is(denied));
        match self.told("a denial", wanted).await {
            Event::Denied(denied) => denied,
            other => panic!("{other:?}"),
        }
    }

    /// Messages about callbacks that failed.
    pub(crate) fn faults(&self) -> Vec<String> {
        let fault = |event| match event {
            Event::CallbackFailed(failed) => Some(failed.message),
            _ => None,
        };
        self.events().into_iter().filter_map(fault).collect()
    }

    pub(crate) async fn connect(&self, port: u16) -> std::io::Result<UnixStream> {
        self.guest.connect(host(port)).await
    }

    pub(crate) async fn set_policy(&self, policy: v1::NetworkPolicy) -> Result<(), Status> {
        let request = v1::SetNetworkPolicyRequest { policy: Some(policy) };
        soon(self.helper.network.clone().set_network_policy(request)).await.map(drop)
    }
}

/// What Watch tells from now on.
pub(crate) async fn watch(helper: &Helper) -> Arc<Mutex<Vec<v1::watch_response::Event>>> {
    let mut sandbox = helper.sandbox.clone();
    let seen = Arc::<Mutex<Vec<_>>>::default();
    let kept = Arc::clone(&seen);
    let mut events = soon(sandbox.watch(v1::WatchRequest {})).await.unwrap().into_inner();
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            kept.lock().unwrap().extend(event.event);
        }
    });
    seen
}

/// A server on the host's loopback that sends back what it gets.
pub(crate) async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    port
}

/// Sends a word over a connection to an echo, and waits for it.
pub(crate) async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), word: &str) {
    soon(stream.write_all(word.as_bytes())).await.unwrap();
    let mut answer = vec![0; word.len()];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, word.as_bytes());
}

/// One request; its answer until the text has come or the connection has ended.
pub(crate) async fn get(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: impl Into<String>,
    end: &str,
) -> String {
    let request = head.into().replace('\n', "\r\n") + "\r\n\r\n";
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    soon(async {
        while !String::from_utf8_lossy(&answer).contains(end) {
            match stream.read_buf(&mut answer).await {
                Ok(1..) => {}
                _ => break,
            }
        }
    })
    .await;
    String::from_utf8(answer).unwrap()
}

pub(crate) fn field(name: &str, value: &str) -> v1::HttpHeader {
    v1::HttpHeader { name: name.to_owned(), value: value.as_bytes().to_vec().into() }
}
