//! The policy behind callbacks: each flow is a question.

use std::sync::Arc;

use async_trait::async_trait;
use netstack::http::{Http, Target};
use netstack::names::Names;
use netstack::policy::QUIC;
use netstack::{Decision, Flow, Grants, Policy};
use protocol::v1;
use protocol::v1::network_call::Call;

use super::answer::{Expected, FlowVerdict, HttpFlow, Outcome};
use super::flow::{flow as wire, words};
use super::intercepted::Intercepted;
use super::middleware::StreamMiddleware;
use super::resolvers::Resolvers;
use super::served::{Fault, Interest, Served};
use crate::limits::FLOW_NAMES;

/// Asks the client about each flow.
pub(super) struct StreamPolicy {
    served: Arc<Served>,
    names: Arc<Names>,
    http: Arc<Http>,
    resolvers: Arc<Resolvers>,
    intercepted: Intercepted,
}

impl StreamPolicy {
    pub(super) fn new(
        served: Arc<Served>,
        names: Arc<Names>,
        http: Arc<Http>,
        resolvers: Arc<Resolvers>,
    ) -> Self {
        Self { served, names, http, resolvers, intercepted: Intercepted::default() }
    }

    /// The client's verdict, and its interest in the flow from then on.
    pub(super) async fn verdict(&self, flow: &Flow) -> Result<(FlowVerdict, Interest), Fault> {
        let interest = self.served.interest(flow.id);
        let mut names = self.names.names_of(flow.destination.ip());
        if names.len() > FLOW_NAMES {
            tracing::info!(flow = flow.id.0, names = names.len(), "the policy is told the first");
            names.truncate(FLOW_NAMES);
        }
        let call = Call::Decide(v1::DecideFlowCall {
            flow: Some(wire(flow)),
            to_resolver: flow.is_to_resolver(),
            names: names.iter().map(ToString::to_string).collect(),
        });
        let expected = Expected::Decision {
            to_resolver: flow.is_to_resolver(),
            transport: flow.transport,
            names,
        };
        match self.served.ask(|| words(flow), call, expected).await? {
            Outcome::Decision(verdict) => {
                tracing::debug!(flow = flow.id.0, ?verdict, "the policy decided");
                Ok((verdict, interest))
            }
            _ => Err(Fault::Wrong("it answered what was not asked".to_owned())),
        }
    }

    /// The servers that answer for a flow, by another verdict than which there are none.
    pub(super) fn resolver(&self, verdict: FlowVerdict) -> Result<Arc<netstack::dns::Dns>, String> {
        match verdict {
            FlowVerdict::Resolve(servers) => Ok(self.resolvers.of(servers)),
            FlowVerdict::Deny(reason) => Err(reason),
            FlowVerdict::Accept(_) | FlowVerdict::Http(_) => {
                Err("the policy did not let the resolver answer".to_owned())
            }
        }
    }

    fn http(&self, flow: &Flow, http: HttpFlow, interest: Interest) -> Decision {
        let HttpFlow { names, allow_private, middleware } = http;
        if !names.is_empty() {
            self.intercepted.add(flow.destination.ip());
        }
        let middleware = if middleware {
            Some(Arc::new(StreamMiddleware::new(interest)) as _)
        } else {
            interest.none();
            None
        };
        let target = match names.is_empty() {
            true => Target::Address,
            false => Target::Names { names, allow_private },
        };
        let interceptor = self.http.interceptor(target, middleware);
        Decision::Intercept(interceptor, Grants::default())
    }
}

#[async_trait]
impl Policy for StreamPolicy {
    async fn decide(&self, flow: &Flow) -> Decision {
        match self.verdict(flow).await {
            Ok((FlowVerdict::Http(http), interest)) => self.http(flow, http, interest),
            Ok((verdict, interest)) => {
                interest.none();
                match verdict {
                    FlowVerdict::Accept(_)
                        if flow.is_quic() && self.intercepted.has(flow.destination.ip()) =>
                    {
                        Decision::deny(QUIC)
                    }
                    FlowVerdict::Accept(grants) => Decision::Accept(grants),
                    FlowVerdict::Deny(reason) => Decision::deny(reason),
                    other => match self.resolver(other) {
                        Ok(dns) => Decision::Resolve(dns),
                        Err(reason) => Decision::deny(reason),
                    },
                }
            }
            Err(fault) => Decision::Fail { reason: fault.reason(), detail: fault.to_string() },
        }
    }
}
