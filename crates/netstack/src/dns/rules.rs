//! What the rules of a policy need of the resolver: for each question, the servers of the first rule
//! that has its name.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::query::{Query, Refusal};
use super::resolver::{Dns, Over};
use super::stream;
use crate::flow::Flow;
use crate::policy::{DnsService, HostPattern};
use crate::service::Resolver;
use crate::stream::GuestStream;

/// Resolvers of rules. A flow to the resolver may bring questions about any name, so whichever rule
/// let it in, each question goes to the first rule that fits it. One that fits none is REFUSED.
#[derive(Clone, Debug, Default)]
pub struct DnsRules {
    rules: Vec<(Option<HostPattern>, Arc<Dns>)>,
    otherwise: Option<Arc<dyn Otherwise>>,
}

/// Finds a resolver for questions that fit no rule.
#[async_trait]
pub trait Otherwise: fmt::Debug + Send + Sync + 'static {
    /// The resolver for the questions of a flow, or why they are REFUSED. Asked for every question.
    async fn resolver(&self, flow: &Flow) -> Result<Arc<Dns>, String>;
}

impl DnsRules {
    /// For no rule.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next rule that allows questions to the gateway's resolver: about names that fit, or
    /// about all.
    #[must_use]
    pub fn rule(mut self, host: Option<HostPattern>, dns: Arc<Dns>) -> Self {
        self.rules.push((host, dns));
        self
    }

    /// What fits no rule is not REFUSED, but goes to the resolver that is found by this.
    #[must_use]
    pub fn otherwise(mut self, otherwise: Option<Arc<dyn Otherwise>>) -> Self {
        self.otherwise = otherwise;
        self
    }

    async fn resolve(&self, flow: &Flow, bytes: &[u8], over: Over) -> Option<Bytes> {
        let (_, first) = self.rules.first()?;
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Refusal::Reply(reply)) => return Some(reply),
            Err(Refusal::Silence) => return None,
        };
        let name = query.question().name;
        let fits =
            |host: &Option<HostPattern>| host.as_ref().is_none_or(|host| host.matches(&name));
        let found = match (self.rules.iter().find(|(host, _)| fits(host)), &self.otherwise) {
            (Some((_, dns)), _) => Ok(Arc::clone(dns)),
            (None, Some(otherwise)) => otherwise.resolver(flow).await,
            (None, None) => Err("no rule allows the name".to_owned()),
        };
        match found {
            Ok(dns) => dns.resolve(flow, bytes, over).await,
            Err(reason) => Some(first.refuse(flow, &query, &reason, over)),
        }
    }
}

impl DnsService for DnsRules {
    fn resolver(&self, _rule: usize) -> Arc<dyn Resolver> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl Resolver for DnsRules {
    async fn answer(&self, flow: &Flow, query: Bytes) -> Option<Bytes> {
        self.resolve(flow, &query, Over::Udp).await
    }

    async fn serve(&self, flow: Flow, stream: GuestStream) {
        let flow = &flow;
        let resolve = |query: Bytes| async move { self.resolve(flow, &query, Over::Tcp).await };
        stream::serve(flow, stream, resolve).await;
    }
}
