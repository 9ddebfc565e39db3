use super::*;

fn take(expected: Expected, answer: Option<Answer>) -> Outcome {
    let taken = Gathering(expected).take(v1::NetworkAnswer { id: 1, answer });
    assert!(!taken.more);
    taken.outcome.expect("an answer has one piece")
}

fn asked(to_resolver: bool, transport: Transport) -> Expected {
    let names = vec![HostName::parse("a.example").unwrap(), HostName::parse("b.example").unwrap()];
    Expected::Decision { to_resolver, transport, names }
}

fn decided(decision: Decision) -> Option<Answer> {
    Some(Answer::Decision(v1::FlowDecision { decision: Some(decision) }))
}

fn flow(decision: Decision) -> FlowVerdict {
    let to_resolver = matches!(decision, Decision::Resolve(_));
    match take(asked(to_resolver, Transport::Tcp), decided(decision)) {
        Outcome::Decision(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

fn wrong(expected: Expected, answer: Option<Answer>) -> String {
    match take(expected, answer) {
        Outcome::Wrong(problem) => problem,
        other => panic!("{other:?}"),
    }
}

fn judged(verdict: Verdict) -> Option<Answer> {
    Some(Answer::Verdict(v1::HttpVerdict { verdict: Some(verdict) }))
}

fn field(name: &str, value: &str) -> v1::HttpHeader {
    v1::HttpHeader { name: name.to_owned(), value: value.as_bytes().to_vec().into() }
}

#[test]
fn sound_decisions_are_taken() {
    let accept = Decision::Accept(v1::AcceptFlow { link_local: true });
    assert_eq!(flow(accept), FlowVerdict::Accept(Grants { link_local: true }));
    let resolvers = vec!["192.0.2.1".to_owned(), "[2001:db8::1]:54".to_owned()];
    let FlowVerdict::Resolve(servers) = flow(Decision::Resolve(v1::ResolveFlow { resolvers }))
    else {
        panic!("no servers")
    };
    let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:54"]);
    let names = vec!["B.example.".to_owned()];
    let given = v1::HttpFlow { names, allow_private: true, middleware: true };
    let FlowVerdict::Http(http) = flow(Decision::Http(given)) else { panic!("no http") };
    assert_eq!(http.names, [HostName::parse("b.example").unwrap()]);
    assert!(http.allow_private && http.middleware);
}

#[test]
fn a_denial_always_has_a_reason_and_no_long_one() {
    let deny = |reason: &str| match flow(Decision::Deny(v1::DenyFlow { reason: reason.to_owned() }))
    {
        FlowVerdict::Deny(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(deny("because"), "because");
    assert!(!deny("").is_empty() && !deny("  ").trim().is_empty());
    assert_eq!(deny(&"ü".repeat(5000)).len(), REASON_BYTES);
    let problem = Some(Answer::Problem(String::new()));
    let Outcome::Failed(words) = take(Expected::Verdict, problem) else { panic!("no failure") };
    assert!(!words.is_empty());
}

#[test]
fn decisions_that_cannot_be_are_wrong() {
    let http = || decided(Decision::Http(v1::HttpFlow::default()));
    let resolve =
        |resolvers: Vec<String>| decided(Decision::Resolve(v1::ResolveFlow { resolvers }));
    let named = |name: &str| {
        let names = vec!["a.example".to_owned(), name.to_owned()];
        decided(Decision::Http(v1::HttpFlow { names, ..v1::HttpFlow::default() }))
    };
    let tcp = || asked(false, Transport::Tcp);
    let dns = || asked(true, Transport::Udp);
    wrong(tcp(), None);
    wrong(tcp(), Some(Answer::Decision(v1::FlowDecision::default())));
    wrong(tcp(), judged(Verdict::Deny(v1::DenyRequest::default())));
    wrong(tcp(), resolve(Vec::new()));
    wrong(tcp(), named("c.example"));
    wrong(tcp(), named("not a name"));
    wrong(asked(false, Transport::Udp), http());
    wrong(asked(true, Transport::Tcp), http());
    for bad in ["dns.example", "192.0.2.1:0", "", "0.0.0.0", "[::1"] {
        let problem = wrong(dns(), resolve(vec!["192.0.2.1".to_owned(), bad.to_owned()]));
        assert!(problem.starts_with("resolve.resolvers[1] is"), "{problem}");
    }
    let many = vec!["192.0.2.1".to_owned(); 17];
    assert!(wrong(dns(), resolve(many)).contains("16"));
}

#[test]
fn sound_verdicts_are_taken_with_their_fields_in_order() {
    let headers = vec![field("X-A", "1"), field("x-b", "2"), field("x-a", "3")];
    let forward = Verdict::Forward(v1::ForwardRequest { headers });
    let Outcome::Verdict(RequestVerdict::Forward(headers)) =
        take(Expected::Verdict, judged(forward))
    else {
        panic!("not forwarded")
    };
    assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "3"]);
    for status in [200, 204, 451, 599] {
        let respond = v1::RespondToRequest { status, ..v1::RespondToRequest::default() };
        let outcome = take(Expected::Verdict, judged(Verdict::Respond(respond)));
        let Outcome::Verdict(RequestVerdict::Respond(given, ..)) = outcome else {
            panic!("{status}")
        };
        assert_eq!(u32::from(given.as_u16()), status);
    }
}

#[test]
fn verdicts_that_cannot_be_are_wrong_and_do_not_show_values() {
    let forward = |headers| judged(Verdict::Forward(v1::ForwardRequest { headers }));
    let respond = |status, body: usize| {
        let body = vec![0; body].into();
        judged(Verdict::Respond(v1::RespondToRequest { status, headers: Vec::new(), body }))
    };
    let verdict = || Expected::Verdict;
    wrong(verdict(), None);
    wrong(verdict(), Some(Answer::Verdict(v1::HttpVerdict::default())));
    wrong(verdict(), decided(Decision::Accept(v1::AcceptFlow::default())));
    for status in [0, 100, 101, 199, 600, 65_736, u32::MAX] {
        wrong(verdict(), respond(status, 0));
    }
    wrong(verdict(), respond(200, VERDICT_BODY_BYTES + 1));
    wrong(verdict(), forward(vec![field("a b", "x")]));
    let problem = wrong(verdict(), forward(vec![field("authorization", "s3cret\n")]));
    assert!(problem.contains("authorization") && !problem.contains("s3cret"), "{problem}");
    wrong(verdict(), forward(vec![field("a", "1"); VERDICT_HEADERS + 1]));
    wrong(verdict(), forward(vec![field("a", &"x".repeat(VERDICT_HEADER_BYTES))]));
}
