//! From a plan to a policy: rules, what stands behind them, and the client for the rest.

use std::sync::Arc;
use std::time::Duration;

use netstack::dns::DnsRules;
use netstack::http::{self, Http, Middleware, Secrets, SetHeaders, Target};
use netstack::names::Names;
use netstack::policy::{HostPattern, HttpService, Rules, Services};
use netstack::tls::{Authority, Trust};
use netstack::{Interceptor, Policy};

use super::event;
use super::policy::StreamPolicy;
use super::report::Reporter;
use super::resolvers::{Behind, Resolvers};
use super::served::Served;
use crate::request::RulePlan;

/// What all policies of a network share.
pub(super) struct Common {
    pub(super) names: Arc<Names>,
    pub(super) authority: Arc<Authority>,
    pub(super) secrets: Arc<Secrets>,
    pub(super) reporter: Arc<Reporter>,
}

/// netstack's own deadline for a middleware comes after ours, which is told.
const MARGIN: Duration = Duration::from_secs(5);

/// A policy of these rules; `callbacks` are asked about the rest, in so much time.
pub(super) fn build(
    common: &Common,
    rules: Vec<RulePlan>,
    trust: Trust,
    callbacks: Option<(Arc<Served>, Duration)>,
) -> Arc<dyn Policy> {
    let mut limits = http::Limits::default();
    if let Some((_, deadline)) = &callbacks {
        limits.middleware_deadline = *deadline + MARGIN;
    }
    let reporter = Arc::clone(&common.reporter);
    let observer = http::Observer::new(move |told| {
        if let Some(event) = event::of_http(told) {
            reporter.tell(event);
        }
    });
    let http = Http::new(http::Options {
        names: Arc::clone(&common.names),
        authority: Arc::clone(&common.authority),
        trust: Arc::new(trust),
        secrets: Arc::clone(&common.secrets),
        limits,
        observer,
    });
    let resolvers = Resolvers::new(Arc::clone(&common.names), Arc::clone(&common.reporter));
    let resolvers = Arc::new(resolvers);
    let asked = callbacks.map(|(served, _)| {
        let (names, http) = (Arc::clone(&common.names), Arc::clone(&http));
        Arc::new(StreamPolicy::new(served, names, http, Arc::clone(&resolvers)))
    });
    let services = Services {
        dns: Some(Arc::new(resolver(&rules, &resolvers, asked.as_ref()))),
        names: Some(Arc::clone(&common.names) as _),
        http: Some(Arc::new(Interceptors::new(http, &rules))),
    };
    let rules = rules.into_iter().map(|plan| plan.rule).collect();
    Arc::new(Rules::new(rules, services, asked.map(|policy| policy as _)))
}

/// The resolvers of the rules for DNS: each question goes to that of the first rule it fits.
fn resolver(
    rules: &[RulePlan],
    resolvers: &Resolvers,
    asked: Option<&Arc<StreamPolicy>>,
) -> DnsRules {
    let behind = asked.map(|policy| Arc::new(Behind::new(Arc::clone(policy))) as _);
    let rules = rules.iter().filter(|plan| plan.resolves());
    let made = rules.fold(DnsRules::new(), |made, plan| {
        made.rule(plan.rule.host.clone(), resolvers.of(plan.resolvers.clone()))
    });
    made.otherwise(behind)
}

/// Makes the interceptors for rules.
struct Interceptors {
    http: Arc<Http>,
    /// One for each rule, of any kind.
    rules: Vec<Intercepting>,
}

struct Intercepting {
    host: Option<HostPattern>,
    allow_private: bool,
    middleware: Option<Arc<dyn Middleware>>,
}

impl Interceptors {
    fn new(http: Arc<Http>, rules: &[RulePlan]) -> Self {
        let intercepting = |plan: &RulePlan| Intercepting {
            host: plan.rule.host.clone(),
            // What `to` names is meant, public or not.
            allow_private: plan.rule.allow_private || !plan.rule.to.is_empty(),
            middleware: (!plan.headers.is_empty())
                .then(|| Arc::new(SetHeaders::new(plan.headers.clone())) as _),
        };
        Self { http, rules: rules.iter().map(intercepting).collect() }
    }
}

impl HttpService for Interceptors {
    /// For all names of the address that fit the rule: a server may have several.
    fn interceptor(&self, rule: usize, _host: Option<&str>) -> Arc<dyn Interceptor> {
        let Some(rule) = self.rules.get(rule) else {
            return self.http.interceptor(Target::Nothing, None);
        };
        let target = match rule.host.clone() {
            None => Target::Address,
            Some(host) => Target::Named { host, allow_private: rule.allow_private },
        };
        self.http.interceptor(target, rule.middleware.clone())
    }
}
