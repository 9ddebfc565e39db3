//! Several resolvers behind one address: a question goes to the first that is for its name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::op::ResponseCode;

use super::event::{Event, Observer, Outcome};
use super::query::{Query, Refusal};
use super::resolver::{Dns, Over};
use super::stream;
use crate::flow::Flow;
use crate::policy::HostPattern;
use crate::service::Resolver;
use crate::stream::GuestStream;

/// One of several resolvers.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The names that it is for; absent: all.
    pub host: Option<HostPattern>,
    /// The resolver.
    pub dns: Arc<Dns>,
}

/// Finds a resolver for what none of a [`Choice`] is for.
#[async_trait]
pub trait Otherwise: Send + Sync + 'static {
    /// The resolver for the questions of a flow, or why there is none. Asked for every question.
    async fn resolver(&self, flow: &Flow) -> Result<Arc<Dns>, String>;
}

/// Several resolvers, in the order in which they are tried.
pub struct Choice {
    choices: Vec<Chosen>,
    otherwise: Option<Arc<dyn Otherwise>>,
    observer: Observer,
}

impl Choice {
    /// These resolvers. The observer is told what none of them was asked.
    #[must_use]
    pub fn new(
        choices: Vec<Chosen>,
        otherwise: Option<Arc<dyn Otherwise>>,
        observer: Observer,
    ) -> Self {
        Self { choices, otherwise, observer }
    }

    async fn resolve(&self, flow: &Flow, bytes: &[u8], over: Over) -> Option<Bytes> {
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Refusal::Reply(reply)) => return Some(reply),
            Err(Refusal::Silence) => return None,
        };
        match self.choose(flow, &query).await {
            Ok(dns) => dns.resolve(flow, bytes, over).await,
            Err(reason) => {
                let question = query.question();
                self.observer.tell(Event {
                    flow: flow.id,
                    name: question.name,
                    record_type: question.record_type,
                    outcome: Outcome::Refused { reason },
                });
                Some(query.fit(query.reply(ResponseCode::Refused), query.payload()))
            }
        }
    }

    async fn choose(&self, flow: &Flow, query: &Query) -> Result<Arc<Dns>, String> {
        let name = query.question().name;
        let fits = |choice: &&Chosen| choice.host.as_ref().is_none_or(|host| host.matches(&name));
        match (self.choices.iter().find(fits), &self.otherwise) {
            (Some(choice), _) => Ok(Arc::clone(&choice.dns)),
            (None, Some(otherwise)) => otherwise.resolver(flow).await,
            (None, None) => Err("no rule allows the name".to_owned()),
        }
    }
}

#[async_trait]
impl Resolver for Choice {
    async fn answer(&self, flow: &Flow, query: Bytes) -> Option<Bytes> {
        self.resolve(flow, &query, Over::Udp).await
    }

    async fn serve(&self, flow: Flow, stream: GuestStream) {
        let flow = &flow;
        let answer = |query: Bytes| async move { self.resolve(flow, &query, Over::Tcp).await };
        if let Err(error) = stream::serve(stream, answer).await {
            tracing::debug!(%error, flow = flow.id.0, "a connection to the resolver ended early");
        }
    }
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice").field("choices", &self.choices).finish_non_exhaustive()
    }
}
