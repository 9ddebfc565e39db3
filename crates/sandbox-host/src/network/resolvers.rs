//! The resolvers of one policy: one for each set of servers, all of them with the same names.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use netstack::dns::{self, Dns, Otherwise, Server, Servers};
use netstack::names::Names;
use netstack::{Flow, FlowId};
use tokio::sync::OnceCell;

use super::event;
use super::policy::StreamPolicy;
use super::report::Reporter;
use crate::limits::{RESOLVER_FLOWS, RESOLVER_SETS};

/// Makes resolvers.
pub(super) struct Resolvers {
    names: Arc<Names>,
    reporter: Arc<Reporter>,
    made: Mutex<HashMap<Vec<Server>, Arc<Dns>>>,
}

impl Resolvers {
    pub(super) fn new(names: Arc<Names>, reporter: Arc<Reporter>) -> Self {
        Self { names, reporter, made: Mutex::default() }
    }

    /// The resolver that asks these servers, or the host's when there are none. It keeps what it
    /// was answered, as long as there are not too many sets of servers.
    pub(super) fn of(&self, servers: Vec<Server>) -> Arc<Dns> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dns) = made.get(&servers) {
            return Arc::clone(dns);
        }
        let reporter = Arc::clone(&self.reporter);
        let observer = dns::Observer::new(move |told| reporter.tell(event::of_dns(told)));
        let options = dns::Options { observer, ..dns::Options::default() };
        let asked = Servers::new(servers.clone());
        let dns = Arc::new(Dns::new(asked, Arc::clone(&self.names), options));
        if made.len() < RESOLVER_SETS {
            made.insert(servers, Arc::clone(&dns));
        }
        dns
    }
}

/// For questions that no rule is for: the policy behind the rules is asked, once for each flow.
pub(super) struct Behind {
    policy: Arc<StreamPolicy>,
    flows: Mutex<Flows>,
}

type Verdict = Arc<OnceCell<Result<Arc<Dns>, String>>>;

#[derive(Default)]
struct Flows {
    verdicts: HashMap<FlowId, Verdict>,
    order: VecDeque<FlowId>,
}

impl Behind {
    pub(super) fn new(policy: Arc<StreamPolicy>) -> Self {
        Self { policy, flows: Mutex::default() }
    }

    fn verdict(&self, flow: FlowId) -> Verdict {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = flows.verdicts.get(&flow) {
            return Arc::clone(verdict);
        }
        if flows.order.len() >= RESOLVER_FLOWS
            && let Some(oldest) = flows.order.pop_front()
        {
            flows.verdicts.remove(&oldest);
        }
        let verdict = Verdict::default();
        flows.verdicts.insert(flow, Arc::clone(&verdict));
        flows.order.push_back(flow);
        verdict
    }
}

#[async_trait]
impl Otherwise for Behind {
    async fn resolver(&self, flow: &Flow) -> Result<Arc<Dns>, String> {
        let ask = || async {
            let (verdict, interest) =
                self.policy.verdict(flow).await.map_err(|fault| fault.to_string())?;
            interest.none();
            self.policy.resolver(verdict)
        };
        self.verdict(flow.id).get_or_init(ask).await.clone()
    }
}

impl std::fmt::Debug for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Behind")
    }
}
