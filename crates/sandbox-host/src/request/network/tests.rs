use super::*;

fn rule_of(allow: v1::AllowedTraffic) -> v1::NetworkRule {
    v1::NetworkRule { allow: allow.into(), ..v1::NetworkRule::default() }
}

fn field(name: &str, value: &str) -> v1::HttpHeader {
    v1::HttpHeader { name: name.to_owned(), value: value.as_bytes().to_vec().into() }
}

fn range(first: u32, last: u32) -> v1::PortRange {
    v1::PortRange { first, last }
}

fn with(rule: v1::NetworkRule) -> v1::NetworkPolicy {
    let rules = vec![rule_of(v1::AllowedTraffic::Tcp), rule];
    v1::NetworkPolicy { rules, ..v1::NetworkPolicy::default() }
}

fn secret_of(name: &str) -> v1::Secret {
    let hosts = vec!["api.example".to_owned()];
    v1::Secret { name: name.to_owned(), value: "value".to_owned(), hosts, in_query: false }
}

fn checked(secrets: Vec<v1::Secret>) -> Result<NetworkPlan, RequestError> {
    let env = HashMap::from([("TAKEN".to_owned(), String::new())]);
    network(v1::Network { policy: None, secrets }, &env)
}

#[test]
fn a_sound_policy_is_taken_whole() {
    let dns = v1::NetworkRule {
        host: "*.Example.com.".to_owned(),
        resolvers: vec!["192.0.2.1".to_owned(), "[2001:db8::1]:54".to_owned()],
        ..rule_of(v1::AllowedTraffic::Dns)
    };
    let http = v1::NetworkRule {
        to: vec!["192.0.2.0/24".to_owned(), "2001:db8::1".to_owned()],
        ports: vec![range(443, 443), range(8000, 8100)],
        headers: vec![field("authorization", "Bearer s3cret"), field("x-a", "1")],
        allow_private: true,
        ..rule_of(v1::AllowedTraffic::Http)
    };
    let callbacks = v1::NetworkCallbacks { id: "one".to_owned(), deadline_ms: 0 };
    let given = v1::NetworkPolicy {
        rules: vec![dns, http],
        callbacks: Some(callbacks),
        extra_roots: Vec::new(),
    };
    let plan = policy("policy", given).unwrap();
    assert_eq!(plan.callbacks.as_ref().unwrap().deadline, CALLBACK_DEFAULT);
    let [dns, http] = &plan.rules[..] else { panic!("{plan:?}") };
    assert!(dns.resolves() && !http.resolves());
    assert_eq!(dns.rule.host.as_ref().unwrap().to_string(), "*.example.com");
    assert_eq!(dns.resolvers.len(), 2);
    assert_eq!((http.rule.to.len(), &http.rule.ports), (2, &vec![443..=443, 8000..=8100]));
    assert_eq!(http.headers["x-a"], "1");
    assert!(!format!("{plan:?}").contains("s3cret"), "{plan:?}");
}

#[test]
fn each_bad_field_of_a_rule_is_refused_by_its_name() {
    use v1::AllowedTraffic::{Dns, Http, Tcp, Udp, Unspecified};
    type Change = fn(&mut v1::NetworkRule);
    let cases: [(&str, v1::AllowedTraffic, Change); 24] = [
        ("allow", Unspecified, |_| ()),
        ("allow", Tcp, |rule| rule.allow = 9),
        ("host", Tcp, |rule| rule.host = "192.0.2.1".to_owned()),
        ("host", Tcp, |rule| rule.host = "*".to_owned()),
        ("host", Tcp, |rule| rule.host = "a..b".to_owned()),
        ("to[1]", Tcp, |rule| rule.to = vec!["10.0.0.0/8".to_owned(), "10.0.0.1/8".to_owned()]),
        ("to", Tcp, |rule| rule.to = vec!["10.0.0.1".to_owned(); 257]),
        ("ports[0].first", Tcp, |rule| rule.ports = vec![range(0, 1)]),
        ("ports[1].last", Tcp, |rule| rule.ports = vec![range(1, 2), range(2, 1)]),
        ("ports[0].last", Tcp, |rule| rule.ports = vec![range(1, 65_536)]),
        ("ports", Tcp, |rule| rule.ports = vec![range(1, 1); 257]),
        ("ports", Dns, |rule| rule.ports = vec![range(54, 99)]),
        ("headers", Tcp, |rule| rule.headers = vec![field("a", "b")]),
        ("headers", Dns, |rule| rule.headers = vec![field("a", "b")]),
        ("headers", Http, |rule| rule.headers = vec![field("a", "b"); 65]),
        ("headers", Http, |rule| rule.headers = vec![field("a", &"b".repeat(65_536))]),
        ("headers[0].name", Http, |rule| rule.headers = vec![field("A", "b")]),
        ("headers[0].name", Http, |rule| rule.headers = vec![field("a b", "b")]),
        ("headers[1].name", Http, |rule| rule.headers = vec![field("a", ""), field("host", "b")]),
        ("headers[0].value", Http, |rule| rule.headers = vec![field("a", "b\n")]),
        ("resolvers", Udp, |rule| rule.resolvers = vec!["192.0.2.1".to_owned()]),
        ("resolvers[0]", Dns, |rule| rule.resolvers = vec!["dns.example".to_owned()]),
        ("resolvers", Dns, |rule| rule.resolvers = vec!["192.0.2.1".to_owned(); 17]),
        ("host", Dns, |rule| {
            rule.host = "a.example".to_owned();
            rule.to = vec!["192.0.2.1".to_owned()];
        }),
    ];
    for (field, allow, change) in cases {
        let mut rule = rule_of(allow);
        change(&mut rule);
        let error = policy("network.policy", with(rule)).expect_err(field);
        assert_eq!(error.field, format!("network.policy.rules[1].{field}"));
    }
}

#[test]
fn each_bad_field_of_a_policy_is_refused_by_its_name() {
    let refused = |change: fn(&mut v1::NetworkPolicy)| {
        let mut given = v1::NetworkPolicy::default();
        change(&mut given);
        policy("policy", given).expect_err("refused").field
    };
    let callbacks =
        |id: &str, deadline_ms| Some(v1::NetworkCallbacks { id: id.to_owned(), deadline_ms });
    let many = |policy: &mut v1::NetworkPolicy| {
        policy.rules = vec![rule_of(v1::AllowedTraffic::Tcp); MAX_RULES + 1];
    };
    assert_eq!(refused(many), "policy.rules");
    let mut given = v1::NetworkPolicy { callbacks: callbacks("a b", 0), ..Default::default() };
    assert_eq!(policy("policy", given.clone()).unwrap_err().field, "policy.callbacks.id");
    given.callbacks = callbacks("a", 3_600_001);
    assert_eq!(policy("policy", given.clone()).unwrap_err().field, "policy.callbacks.deadline_ms");
    given.callbacks = callbacks("a", 3_600_000);
    assert!(policy("policy", given).is_ok());
    assert_eq!(refused(|given| given.extra_roots = vec!["x".to_owned()]), "policy.extra_roots[0]");
    let large = |given: &mut v1::NetworkPolicy| given.extra_roots = vec!["x".repeat(600_000); 2];
    assert_eq!(refused(large), "policy.extra_roots");
}

#[test]
fn extra_roots_are_certificates() {
    let authority = netstack::tls::Authority::new(std::time::SystemTime::now()).unwrap();
    let good = authority.certificate_pem().to_owned();
    let given = |roots: Vec<String>| v1::NetworkPolicy { extra_roots: roots, ..Default::default() };
    assert!(policy("policy", given(vec![good.clone(), good.clone()])).is_ok());
    let error = policy("policy", given(vec![good, "nonsense".to_owned()])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "policy.extra_roots[1] is 8 bytes, but it must be certificates in \
        PEM form that can be roots"
    );
}

#[test]
fn secrets_become_placeholders_and_never_print() {
    let mut secrets = vec![secret_of("TOKEN"), secret_of("_B2")];
    secrets[0].value = "s3cret".to_owned();
    let plan = checked(secrets).unwrap();
    let names: Vec<_> = plan.secrets.iter().map(netstack::http::Secret::name).collect();
    assert_eq!(names, ["TOKEN", "_B2"]);
    assert!(!format!("{plan:?}").contains("s3cret"));
}

#[test]
fn each_bad_field_of_a_secret_is_refused_by_its_name_without_its_value() {
    type Change = fn(&mut v1::Secret);
    let cases: [(&str, Change); 12] = [
        ("name", |secret| secret.name.clear()),
        ("name", |secret| secret.name = "A-B".to_owned()),
        ("name", |secret| secret.name = "1A".to_owned()),
        ("name", |secret| secret.name = "TAKEN".to_owned()),
        ("name", |secret| secret.name = "FIRST".to_owned()),
        ("value", |secret| secret.value.clear()),
        ("value", |secret| secret.value = "s3cret\r\nx: y".to_owned()),
        ("value", |secret| secret.value = "s3cret".repeat(20_000)),
        ("hosts", |secret| secret.hosts.clear()),
        ("hosts", |secret| secret.hosts = vec!["a.example".to_owned(); 257]),
        ("hosts[0]", |secret| secret.hosts = vec!["192.0.2.1".to_owned()]),
        ("hosts[1]", |secret| secret.hosts.push("a b".to_owned())),
    ];
    for (field, change) in cases {
        let mut secret = secret_of("TOKEN");
        change(&mut secret);
        let error = checked(vec![secret_of("FIRST"), secret]).expect_err(field);
        assert_eq!(error.field, format!("network.secrets[1].{field}"));
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    let many = (0..=MAX_SECRETS).map(|number| secret_of(&format!("S{number}"))).collect();
    assert_eq!(checked(many).unwrap_err().field, "network.secrets");
}

#[test]
fn ports_to_publish_are_checked() {
    let request = |guest_port, host_port, host: &str| v1::PublishPortRequest {
        guest_port,
        host_port,
        host: host.to_owned(),
    };
    let plan = publish(&request(80, 0, "")).unwrap();
    assert_eq!(plan, PublishPlan { guest_port: 80, host_port: 0, host: None });
    assert!(publish(&request(65_535, 65_535, "::")).unwrap().host.unwrap().is_ipv6());
    for (field, bad) in [
        ("guest_port", request(0, 0, "")),
        ("guest_port", request(65_536, 0, "")),
        ("host_port", request(80, 65_536, "")),
        ("host", request(80, 0, "localhost")),
    ] {
        assert_eq!(publish(&bad).expect_err(field).field, field);
    }
}
