//! The guest's network: what rules allow, what is told of it, and that nothing is left of it.

use std::fs;

use protocol::ErrorCode;
use protocol::v1;
use protocol::v1::network_event::Event;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::client::{Helper, assert_code, detail, soon, until};
use crate::guest::Script;
use crate::network_client::{
    Unbooted, World, accept, asks, attach, echo, get, host, rule, rules, talk, to_host, watch,
    with_middleware,
};

#[tokio::test]
async fn without_a_network_there_is_no_device_and_nothing_to_set() {
    let helper = Helper::booted(Script::default()).await;
    assert!(helper.engine.network().is_none());
    let request = v1::SetNetworkPolicyRequest::default();
    let error = detail(soon(helper.network.clone().set_network_policy(request)).await);
    assert_code(&error, ErrorCode::InvalidArgument);
    assert!(error.message.contains("without a network"), "{error:?}");
    let late = detail(attach(&helper, "late", 1).await.map(drop));
    assert_code(&late, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn guest_is_told_how_its_device_is_to_be() {
    let world = World::new(v1::NetworkPolicy::default()).await;
    let network = world.told.network.unwrap();
    let addresses: Vec<_> = network
        .addresses
        .iter()
        .map(|address| format!("{}/{}", address.ip, address.prefix_length))
        .collect();
    assert_eq!(addresses, ["10.0.2.15/24", "fd00::15/64"]);
    assert_eq!(network.gateways, ["10.0.2.1", "fd00::1"]);
    assert_eq!(network.resolvers, ["10.0.2.1", "fd00::1"]);
    assert_eq!(network.mtu, 65_520);
    assert!(network.certificate_authority.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(!network.certificate_authority.contains("PRIVATE"));
}

#[tokio::test]
async fn nothing_is_allowed_by_itself() {
    let port = echo().await;
    let world = World::new(v1::NetworkPolicy::default()).await;
    world.connect(port).await.expect_err("denied");
    let denied = world.denial(port).await;
    assert_eq!(denied.reason(), v1::FlowDenial::Policy);
    assert!(!denied.detail.is_empty());
    let flow = denied.flow.unwrap();
    assert_eq!(flow.transport(), v1::Transport::Tcp);
    let (source, destination) = (flow.source.unwrap(), flow.destination.unwrap());
    assert_eq!((source.ip.as_str(), destination.ip.as_str()), ("10.0.2.15", "10.0.2.2"));
    assert!(destination.class.unwrap().host);
}

#[tokio::test]
async fn a_rule_allows_what_it_names_and_the_end_is_told_with_its_bytes() {
    let (allowed, other) = (echo().await, echo().await);
    let world = World::new(rules(vec![to_host(v1::AllowedTraffic::Tcp, allowed)])).await;
    let mut stream = world.connect(allowed).await.expect("allowed");
    talk(&mut stream, "hello").await;
    drop(stream);
    let closed = world.told("the end", |event| matches!(event, Event::Closed(_))).await;
    let Event::Closed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!((closed.sent_bytes, closed.received_bytes), (5, 5));
    assert_eq!(closed.flow.unwrap().destination.unwrap().port, u32::from(allowed));
    world.connect(other).await.expect_err("not named");
    world.denial(other).await;
}

#[tokio::test]
async fn a_destination_that_refuses_is_told_with_its_errno() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let world = World::new(rules(vec![to_host(v1::AllowedTraffic::Tcp, port)])).await;
    world.connect(port).await.expect_err("nobody is there");
    let failed = world.told("a failure", |event| matches!(event, Event::Failed(_))).await;
    let Event::Failed(failed) = failed else { panic!("{failed:?}") };
    assert_eq!(failed.errno, "ECONNREFUSED");
}

#[tokio::test]
async fn another_policy_holds_for_new_flows_only() {
    let port = echo().await;
    let allowed = || rules(vec![to_host(v1::AllowedTraffic::Tcp, port)]);
    let world = World::new(allowed()).await;
    let mut old = world.connect(port).await.expect("allowed");
    talk(&mut old, "before").await;
    world.set_policy(v1::NetworkPolicy::default()).await.unwrap();
    world.connect(port).await.expect_err("not any more");
    talk(&mut old, "after").await;
    world.set_policy(allowed()).await.unwrap();
    let mut new = world.connect(port).await.expect("allowed again");
    talk(&mut new, "again").await;
}

#[tokio::test]
async fn stream_of_an_old_policy_ends_with_its_last_flow() {
    let port = echo().await;
    let (world, mut decider) = World::asking(0).await;
    // A flow that is relayed holds nothing of the policy; one with a middleware does.
    let origin = crate::servers::origin(None).await;
    let (opened, ()) = tokio::join!(world.connect(origin.0), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, with_middleware());
    });
    let old = opened.expect("accepted");
    let second = attach(&world.helper, "two", 1).await.unwrap();
    world.set_policy(asks("two")).await.unwrap();
    let mut second = second;
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, _) = second.flow().await;
        second.decide(id, accept());
    });
    talk(&mut opened.expect("accepted"), "new").await;
    // The old stream still serves its flow.
    let mut old = old;
    let request = "GET /old HTTP/1.1\nHost: 10.0.2.2";
    let (answer, ()) = tokio::join!(get(&mut old, request, "asked for /old"), async {
        let (id, call) = decider.request().await;
        let forward = v1::ForwardRequest { headers: call.headers };
        decider.judge(id, v1::http_verdict::Verdict::Forward(forward));
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(old);
    decider.ended().await;
}

#[tokio::test]
async fn policies_that_cannot_be_are_refused_by_their_option() {
    let lane = Unbooted::start().await;
    let mut helper = lane.helper;
    let mut request = helper.files.request();
    let policy = asks("nobody");
    request.network = Some(v1::Network { policy: Some(policy), secrets: Vec::new() });
    let error = detail(soon(helper.sandbox.boot(request)).await);
    assert_code(&error, ErrorCode::InvalidArgument);
    assert!(error.message.starts_with("network.policy.callbacks.id is \"nobody\""), "{error:?}");
    assert_eq!(helper.engine.alive(), 0);

    let world = World::new(v1::NetworkPolicy::default()).await;
    let error = detail(world.set_policy(asks("nobody")).await);
    assert!(error.message.starts_with("policy.callbacks.id is \"nobody\""), "{error:?}");
    let wrong = v1::NetworkRule {
        to: vec!["10.0.0.0/8".to_owned(), "10.0.0.1/8".to_owned()],
        ..rule(v1::AllowedTraffic::Tcp)
    };
    let error = detail(world.set_policy(rules(vec![wrong])).await);
    assert!(error.message.starts_with("policy.rules[0].to[1] is \"10.0.0.1/8\""), "{error:?}");
}

fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "netstack").count()
}

#[tokio::test]
async fn nothing_is_left_after_the_end() {
    let port = echo().await;
    let (world, mut decider) = World::asking(600_000).await;
    let unused = attach(&world.helper, "unused", 1).await.unwrap();
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, accept());
    });
    let mut open = opened.expect("accepted");
    talk(&mut open, "open").await;
    assert_eq!(threads(), 1);
    // A question that nobody answers does not hold the end back.
    let hangs = world.guest.connect(host(port));
    let ended = async {
        decider.flow().await;
        world.helper.shutdown(0).await.unwrap()
    };
    let (hung, ended) = tokio::join!(hangs, ended);
    hung.expect_err("the network has ended");
    assert_eq!(ended.reason(), v1::ExitReason::Closed);
    assert_eq!(soon(open.read(&mut [0; 8])).await.unwrap_or(0), 0);
    decider.ended().await;
    unused.ended().await;
    until("no thread is left", || threads() == 0).await;
    let closed = world.told("the flow's end", |event| matches!(event, Event::Closed(_))).await;
    let Event::Closed(closed) = closed else { panic!("{closed:?}") };
    assert_eq!(closed.end(), v1::FlowEnd::Shutdown);
}

/// A lane with all that a network can have, from its boot to its end.
async fn lane() {
    let (port, (web, _)) = (echo().await, crate::servers::origin(None).await);
    let (world, mut decider) = World::asking(0).await;
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, accept());
    });
    let mut relayed = opened.expect("accepted");
    talk(&mut relayed, "word").await;
    let (opened, ()) = tokio::join!(world.connect(web), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, with_middleware());
    });
    let intercepted = opened.expect("accepted");
    let request = v1::PublishPortRequest { guest_port: 80, ..v1::PublishPortRequest::default() };
    soon(world.helper.network.clone().publish_port(request)).await.unwrap();
    world.set_policy(v1::NetworkPolicy::default()).await.unwrap();
    world.helper.shutdown(0).await.unwrap();
    decider.ended().await;
    let Helper { sandbox, process, filesystem, network, task, .. } = world.helper;
    drop((sandbox, process, filesystem, network, world.guest, relayed, intercepted));
    soon(task).await.unwrap().unwrap();
}

/// Open descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn lanes_that_have_ended_keep_no_descriptor() {
    // What is made once stays, and each round leaves its two servers.
    lane().await;
    let before = descriptors();
    for round in 1..=3 {
        lane().await;
        until("all are closed", || descriptors() <= before + 2 * round).await;
    }
}

#[tokio::test]
async fn a_machine_that_dies_takes_its_network_along() {
    let (world, decider) = World::asking(0).await;
    world.helper.engine.remote().await.exit(engine::ExitReason::Failed, Some(1), None);
    decider.ended().await;
    until("no thread is left", || threads() == 0).await;
    let error = detail(world.set_policy(v1::NetworkPolicy::default()).await);
    assert_code(&error, ErrorCode::SandboxExited);
}

#[tokio::test]
async fn a_network_that_fails_is_a_warning_and_the_machine_goes_on() {
    let lane = Unbooted::start().await;
    let mut helper = lane.helper;
    let mut request = helper.files.request();
    request.network = Some(v1::Network::default());
    soon(helper.sandbox.boot(request)).await.unwrap();
    let device = helper.engine.network().unwrap();
    let events = watch(&helper).await;
    // No frame is that long.
    std::io::Write::write_all(&mut &device.frames, &[0xff; 8]).unwrap();
    until("no thread is left", || threads() == 0).await;
    assert_eq!(helper.status().await.state(), v1::State::Running);
    let warned = |event: &v1::watch_response::Event| match event {
        v1::watch_response::Event::Warning(warning) => warning.message.contains("network failed"),
        _ => false,
    };
    until("it is told", || events.lock().unwrap().iter().any(warned)).await;
    helper.shutdown(0).await.unwrap();
}
