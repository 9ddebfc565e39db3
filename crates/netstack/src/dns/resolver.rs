//! From a query to its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::{Message, ResponseCode};
use tokio::time::{Instant, timeout};

use super::cache::{Cache, Key};
use super::event::{Event, Observer, Outcome};
use super::exchange::{Exchange, Patience};
use super::gate::{Admission, AdmitAll, Gate};
use super::query::{Query, Refusal};
use super::servers::Servers;
use super::sift::{self, Pin};
use super::{built_in, stream};
use crate::flow::Flow;
use crate::names::Names;
use crate::service::Resolver;
use crate::stream::GuestStream;

/// How a resolver behaves.
#[derive(Clone)]
pub struct Options {
    /// Whether a query may be asked.
    pub gate: Arc<dyn Gate>,
    /// How long the gate may take.
    pub gate_deadline: Duration,
    /// How long a server may take at the first attempt; at the second, twice as long.
    pub attempt_timeout: Duration,
    /// How long all attempts at all servers may take.
    pub total_timeout: Duration,
    /// Queries that may be under way to servers at once; what comes above is answered SERVFAIL.
    pub at_once: usize,
    /// Is told what became of each query.
    pub observer: Observer,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gate: Arc::new(AdmitAll),
            gate_deadline: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(2),
            total_timeout: Duration::from_secs(12),
            at_once: 256,
            observer: Observer::default(),
        }
    }
}

/// The guest's resolver.
pub struct Dns {
    options: Options,
    servers: Servers,
    exchange: Exchange,
    cache: Cache,
    names: Arc<Names>,
}

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tcp,
}

impl Dns {
    /// A resolver that asks these servers, and makes the names of its answers trusted.
    #[must_use]
    pub fn new(servers: Servers, names: Arc<Names>, options: Options) -> Self {
        let patience = Patience { attempt: options.attempt_timeout, total: options.total_timeout };
        let exchange = Exchange::new(patience, options.at_once);
        Self { options, servers, exchange, cache: Cache::default(), names }
    }

    /// The answer to one message of the guest; `None` when it was no query.
    pub(super) async fn resolve(&self, flow: &Flow, bytes: &[u8], over: Over) -> Option<Bytes> {
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Refusal::Reply(reply)) => return Some(reply),
            Err(Refusal::Silence) => return None,
        };
        let (message, outcome) = self.find(flow, &query).await;
        Some(self.finish(flow, &query, message, outcome, over))
    }

    /// REFUSED to a query that is not asked.
    pub(super) fn refuse(&self, flow: &Flow, query: &Query, reason: &str, over: Over) -> Bytes {
        let outcome = Outcome::Refused { reason: reason.to_owned() };
        self.finish(flow, query, query.reply(ResponseCode::Refused), outcome, over)
    }

    fn finish(
        &self,
        flow: &Flow,
        query: &Query,
        message: Message,
        outcome: Outcome,
        over: Over,
    ) -> Bytes {
        let question = query.question();
        self.options.observer.tell(Event {
            flow: flow.id,
            name: question.name,
            record_type: question.record_type,
            outcome,
        });
        let most = if over == Over::Udp { query.payload() } else { u16::MAX.into() };
        query.fit(message, most)
    }

    async fn find(&self, flow: &Flow, query: &Query) -> (Message, Outcome) {
        if let Err(reason) = self.admit(flow, query).await {
            return (query.reply(ResponseCode::Refused), Outcome::Refused { reason });
        }
        if let Some(mut message) = built_in::answer(query) {
            let pins = sift::sift(&mut message).unwrap_or_default();
            return self.answered(message, &pins, true);
        }
        let key = Key::of(query);
        if let Some(mut message) = self.cache.get(&key, Instant::now()) {
            let pins = sift::sift(&mut message).unwrap_or_default();
            return self.answered(query.adopt(message), &pins, true);
        }
        match self.exchange.ask(&self.servers.list().await, query).await {
            Ok(answer) => {
                self.cache.put(key, &answer.message, Instant::now());
                self.answered(query.adopt(answer.message), &answer.pins, false)
            }
            Err(error) => {
                let reason = error.to_string();
                (query.reply(ResponseCode::ServFail), Outcome::Failed { reason })
            }
        }
    }

    async fn admit(&self, flow: &Flow, query: &Query) -> Result<(), String> {
        let question = query.question();
        let asked = self.options.gate.admit(flow, &question);
        match timeout(self.options.gate_deadline, asked).await {
            Ok(Admission::Admit) => Ok(()),
            Ok(Admission::Refuse { reason }) => Err(reason),
            Err(_) => Err("no decision in time".to_owned()),
        }
    }

    fn answered(&self, message: Message, pins: &[Pin], cached: bool) -> (Message, Outcome) {
        let mut addresses: Vec<IpAddr> = pins.iter().map(|pin| pin.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for pin in pins {
            self.names.pin(&pin.name, pin.address, Duration::from_secs(pin.ttl.into()));
        }
        let code = message.metadata.response_code.to_string();
        (message, Outcome::Answered { code, cached, addresses })
    }
}

#[async_trait]
impl Resolver for Dns {
    async fn answer(&self, flow: &Flow, query: Bytes) -> Option<Bytes> {
        self.resolve(flow, &query, Over::Udp).await
    }

    async fn serve(&self, flow: Flow, stream: GuestStream) {
        let flow = &flow;
        let resolve = |query: Bytes| async move { self.resolve(flow, &query, Over::Tcp).await };
        stream::serve(flow, stream, resolve).await;
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("servers", &self.servers).finish_non_exhaustive()
    }
}
