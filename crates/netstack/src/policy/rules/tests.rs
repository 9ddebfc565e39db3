use std::collections::HashMap;

use super::*;
use crate::flow::{FlowId, Origin};
use crate::service::Intercepted;
use crate::stream::GuestStream;

struct Table(HashMap<IpAddr, Vec<String>>);

impl TrustedNames for Table {
    fn names_of(&self, address: IpAddr) -> Vec<String> {
        self.0.get(&address).cloned().unwrap_or_default()
    }
}

struct Nobody;

#[async_trait]
impl Resolver for Nobody {
    async fn answer(&self, _: &Flow, _: bytes::Bytes) -> Option<bytes::Bytes> {
        None
    }
    async fn serve(&self, _: Flow, _: GuestStream) {}
}

#[async_trait]
impl Interceptor for Nobody {
    async fn serve(&self, _: Intercepted) {}
}

impl HttpService for Nobody {
    fn interceptor(&self, _: usize, _: Option<&str>) -> Arc<dyn Interceptor> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Policy for Nobody {
    async fn decide(&self, _: &Flow) -> Decision {
        Decision::deny("asked")
    }
}

fn flow(transport: Transport, destination: &str) -> Flow {
    let destination: std::net::SocketAddr = destination.parse().expect("an endpoint");
    let source = std::net::SocketAddr::new(crate::link::guest_for(destination.ip()), 40_000);
    Flow { id: FlowId(1), transport, source, destination, origin: Origin::Guest }
}

fn rules(rules: Vec<Rule>) -> Rules {
    let names = [
        ("1.2.3.4", &["api.example.com"][..]),
        ("10.9.8.7", &["api.example.com", "host.lanebox.internal"]),
        ("10.0.2.2", &["api.example.com", "host.lanebox.internal"]),
    ]
    .into_iter()
    .map(|(address, names)| {
        let names = names.iter().map(|&name| name.to_owned());
        (address.parse().expect("an address"), names.collect())
    });
    let services = Services {
        dns: Some(Arc::new(Arc::new(Nobody))),
        names: Some(Arc::new(Table(names.collect()))),
        http: Some(Arc::new(Nobody)),
    };
    Rules::new(rules, services, None)
}

fn verdict(rule: Rule, transport: Transport, destination: &str) -> String {
    match rules(vec![rule]).settle(&flow(transport, destination)) {
        None => "none".to_owned(),
        Some(Decision::Accept(Grants { link_local: true })) => "accept with grant".to_owned(),
        Some(Decision::Accept(_)) => "accept".to_owned(),
        Some(Decision::Deny { .. } | Decision::Fail { .. }) => "deny".to_owned(),
        Some(Decision::Intercept(..)) => "intercept".to_owned(),
        Some(Decision::Resolve(_)) => "resolve".to_owned(),
    }
}

fn to(allow: Allow, block: &str) -> Rule {
    Rule { to: vec![block.parse().expect("a block")], ..Rule::new(allow) }
}

fn host(allow: Allow, pattern: &str) -> Rule {
    Rule { host: Some(pattern.parse().expect("a pattern")), ..Rule::new(allow) }
}

use Transport::{Icmp, Tcp, Udp};

#[test]
fn protocols_do_not_mix() {
    assert_eq!(verdict(Rule::new(Allow::Tcp), Tcp, "1.2.3.4:22"), "accept");
    assert_eq!(verdict(Rule::new(Allow::Tcp), Udp, "1.2.3.4:22"), "none");
    assert_eq!(verdict(Rule::new(Allow::Udp), Udp, "1.2.3.4:22"), "accept");
    assert_eq!(verdict(Rule::new(Allow::Udp), Icmp, "1.2.3.4:0"), "none");
    assert_eq!(verdict(Rule::new(Allow::Tcp), Tcp, "10.0.2.1:53"), "none");
    assert_eq!(verdict(Rule::new(Allow::Http), Tcp, "1.2.3.4:443"), "intercept");
    assert_eq!(verdict(Rule::new(Allow::Http), Tcp, "1.2.3.4:22"), "none");
}

#[test]
fn dns_is_the_gateways_resolver_unless_others_are_named() {
    for gateway in ["10.0.2.1:53", "[fd00::1]:53"] {
        assert_eq!(verdict(Rule::new(Allow::Dns), Udp, gateway), "resolve");
        assert_eq!(verdict(Rule::new(Allow::Dns), Tcp, gateway), "resolve");
    }
    assert_eq!(verdict(Rule::new(Allow::Dns), Udp, "9.9.9.9:53"), "none");
    assert_eq!(verdict(to(Allow::Dns, "9.9.9.9"), Udp, "9.9.9.9:53"), "accept");
    assert_eq!(verdict(to(Allow::Dns, "9.9.9.9"), Udp, "9.9.9.9:54"), "none");
    assert_eq!(verdict(to(Allow::Dns, "9.9.9.9"), Udp, "10.0.2.1:53"), "none");
}

#[test]
fn a_host_needs_a_trusted_name_and_a_public_address() {
    assert_eq!(verdict(host(Allow::Tcp, "API.example.com."), Tcp, "1.2.3.4:1"), "accept");
    assert_eq!(verdict(host(Allow::Tcp, "*.example.com"), Tcp, "1.2.3.4:1"), "accept");
    assert_eq!(verdict(host(Allow::Tcp, "example.com"), Tcp, "1.2.3.4:1"), "none");
    assert_eq!(verdict(host(Allow::Tcp, "api.example.com"), Tcp, "1.2.3.5:1"), "none");
    assert_eq!(verdict(host(Allow::Tcp, "api.example.com"), Tcp, "10.9.8.7:1"), "none");
    let private = Rule { allow_private: true, ..host(Allow::Tcp, "api.example.com") };
    assert_eq!(verdict(private, Tcp, "10.9.8.7:1"), "accept");
}

#[test]
fn the_hosts_own_name_leads_to_the_host_and_nowhere_else() {
    for (destination, expected) in [("10.0.2.2:1", "accept"), ("10.9.8.7:1", "none")] {
        let rule = host(Allow::Tcp, "host.lanebox.internal");
        assert_eq!(verdict(rule, Tcp, destination), expected);
        assert_eq!(verdict(host(Allow::Tcp, "api.example.com"), Tcp, destination), "none");
    }
}

#[test]
fn quic_to_a_host_that_is_allowed_as_http_is_refused_whatever_comes_before() {
    let rules = rules(vec![Rule::new(Allow::Udp), host(Allow::Http, "api.example.com")]);
    let verdict = |destination: &str| rules.settle(&flow(Udp, destination));
    assert!(matches!(verdict("1.2.3.4:443"), Some(Decision::Deny { reason }) if reason == QUIC));
    for other in ["1.2.3.4:444", "1.2.3.5:443"] {
        assert!(matches!(verdict(other), Some(Decision::Accept(_))), "{other}");
    }
}

#[test]
fn only_a_block_inside_link_local_grants_it() {
    assert_eq!(verdict(to(Allow::Tcp, "0.0.0.0/0"), Tcp, "169.254.169.254:80"), "accept");
    let exact = to(Allow::Tcp, "169.254.169.254");
    assert_eq!(verdict(exact, Tcp, "169.254.169.254:80"), "accept with grant");
}

#[test]
fn ports_are_ranges() {
    let rule = Rule { ports: vec![22..=22, 8000..=8999], ..Rule::new(Allow::Tcp) };
    for (port, expected) in [(22, "accept"), (8000, "accept"), (8999, "accept"), (9000, "none")] {
        assert_eq!(verdict(rule.clone(), Tcp, &format!("1.2.3.4:{port}")), expected);
    }
}

#[tokio::test]
async fn what_no_rule_settles_goes_to_the_policy_behind() {
    let alone = Rules::new(Vec::new(), Services::default(), None);
    let flow = flow(Tcp, "1.2.3.4:80");
    let reason = |decision| match decision {
        Decision::Deny { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(alone.decide(&flow).await), "no rule allows it");
    let composed = Rules::new(Vec::new(), Services::default(), Some(Arc::new(Nobody)));
    assert_eq!(reason(composed.decide(&flow).await), "asked");
    // The same at once, where nobody has to be waited for.
    assert_eq!(Policy::settle(&alone, &flow).map(reason).as_deref(), Some("no rule allows it"));
    assert!(Policy::settle(&composed, &flow).is_none());
}

#[test]
fn patterns_match_whole_labels() {
    let pattern: HostPattern = "*.example.com".parse().expect("a pattern");
    assert!(pattern.matches("a.b.EXAMPLE.com."));
    assert!(!pattern.matches("example.com"));
    assert!(!pattern.matches("badexample.com"));
    assert!(!pattern.matches(".example.com"));
    assert!(!pattern.matches("a\\.example.com"));
}

#[test]
fn texts_that_are_no_hosts_are_refused() {
    for text in ["", ".", "*", "*.", "a..b", "a b", "1.2.3.4", "::1", "a.*.b", "ex\0ample", "ä.de"]
    {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
}
