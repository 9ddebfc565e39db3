//! The client that decides about flows: as it should, and otherwise.

use protocol::ErrorCode;
use protocol::v1;
use protocol::v1::flow_decision::Decision;
use protocol::v1::network_answer::Answer;
use protocol::v1::network_event::Event;
use protocol::v1::serve_network_request::Request;
use protocol::v1::serve_network_response::Response;

use crate::client::{assert_code, detail, soon, until};
use crate::network_client::{
    Decider, Unbooted, World, accept, asks, attach, decided, echo, open, talk, with_middleware,
};

/// A connection of the guest, and what the client answers when it is asked about it.
async fn connect(
    world: &World,
    decider: &mut Decider,
    port: u16,
    answer: impl FnOnce(&v1::DecideFlowCall) -> Option<Answer>,
) -> std::io::Result<tokio::net::UnixStream> {
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, call) = decider.flow().await;
        decider.answer(id, answer(&call));
    });
    opened
}

#[tokio::test]
async fn client_is_asked_once_with_what_is_known_and_decides() {
    let port = echo().await;
    let (world, mut decider) = World::asking(0).await;
    let opened = connect(&world, &mut decider, port, |call| {
        let flow = call.flow.as_ref().unwrap();
        assert_eq!((flow.transport(), call.to_resolver), (v1::Transport::Tcp, false));
        let destination = flow.destination.as_ref().unwrap();
        assert_eq!((destination.ip.as_str(), destination.port), ("10.0.2.2", u32::from(port)));
        assert!(destination.class.as_ref().unwrap().host);
        assert!(call.names.is_empty());
        decided(accept())
    });
    talk(&mut opened.await.expect("accepted"), "hello").await;
    let reason = "not today".to_owned();
    let refused = connect(&world, &mut decider, port, |_| {
        decided(Decision::Deny(v1::DenyFlow { reason: reason.clone() }))
    });
    refused.await.expect_err("denied");
    let denied = world.denial(port).await;
    assert_eq!((denied.reason(), denied.detail.as_str()), (v1::FlowDenial::Policy, "not today"));
    assert_eq!(world.faults(), Vec::<String>::new());
}

#[tokio::test]
async fn stream_that_does_not_begin_as_it_should_is_refused() {
    let lane = Unbooted::start().await;
    let attach =
        |id: &str, credits| Request::Attach(v1::AttachNetwork { id: id.to_owned(), credits });
    for (first, named) in [
        (Request::Answer(v1::NetworkAnswer::default()), "attach"),
        (attach("", 1), "attach.id"),
        (attach("a/b", 1), "attach.id"),
        (attach("a", 0), "attach.credits"),
        (attach("a", 1025), "attach.credits"),
    ] {
        let error = detail(open(&lane.helper, vec![first]).await.map(drop));
        assert_code(&error, ErrorCode::InvalidArgument);
        assert!(error.message.contains(named), "{error:?}");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_deny_and_are_told() {
    let port = echo().await;
    let (world, mut decider) = World::asking(0).await;
    let resolve = |resolvers: &[&str]| {
        let resolvers = resolvers.iter().map(|&text| text.to_owned()).collect();
        decided(Decision::Resolve(v1::ResolveFlow { resolvers }))
    };
    let named = v1::HttpFlow { names: vec!["a.example".to_owned()], ..v1::HttpFlow::default() };
    let verdict = v1::HttpVerdict::default();
    let wrong = [
        (None, "an empty answer"),
        (Some(Answer::Problem("Error: thrown".to_owned())), "Error: thrown"),
        (Some(Answer::Problem(String::new())), "did not say why"),
        (Some(Answer::Verdict(verdict)), "a verdict on a request"),
        (Some(Answer::Decision(v1::FlowDecision::default())), "an empty decision"),
        (resolve(&[]), "`resolve` for a flow that is not to the resolver"),
        (decided(Decision::Http(named)), "\"a.example\", which was not in the question"),
    ];
    for (count, (answer, said)) in wrong.into_iter().enumerate() {
        let shown = format!("{answer:?}");
        connect(&world, &mut decider, port, |_| answer).await.expect_err(&shown);
        until("the fault is told", || world.faults().len() > count).await;
        let told = world.faults().pop().unwrap();
        assert!(told.contains(said) && told.contains(&format!("10.0.2.2:{port}")), "{told}");
    }
    let denials = || {
        let denied = world.events().into_iter().filter_map(|event| match event {
            Event::Denied(denied) => Some(denied),
            _ => None,
        });
        denied.collect::<Vec<_>>()
    };
    until("all are told", || denials().len() == 7).await;
    let denied = denials();
    assert!(denied.iter().all(|denied| denied.reason() == v1::FlowDenial::PolicyFailed));
    assert!(denied.iter().all(|denied| !denied.detail.is_empty()));
    // The same stream goes on.
    let opened = connect(&world, &mut decider, port, |_| decided(accept())).await;
    talk(&mut opened.expect("accepted"), "hello").await;
}

#[tokio::test]
async fn a_client_that_hangs_denies_that_flow_and_holds_up_no_other() {
    let port = echo().await;
    let (world, mut decider) = World::asking(4_000).await;
    let hangs = world.connect(port);
    let other = async {
        let (hung, _) = decider.flow().await;
        let opened = connect(&world, &mut decider, port, |_| decided(accept())).await;
        let mut opened = opened.expect("accepted meanwhile");
        talk(&mut opened, "meanwhile").await;
        (hung, opened)
    };
    let (hung, (id, mut opened)) = tokio::join!(hangs, other);
    hung.expect_err("denied");
    let denied = world.denial(port).await;
    assert_eq!(denied.reason(), v1::FlowDenial::Deadline);
    assert!(denied.detail.contains("4000 ms"), "{denied:?}");
    talk(&mut opened, "after").await;
    until("the fault is told", || !world.faults().is_empty()).await;
    assert!(world.faults()[0].contains("4000 ms"), "{:?}", world.faults());
    // It is told that nobody waits, and may not keep a middleware; its late answer is nobody's.
    let cancelled = decider.next().await.unwrap();
    assert_eq!(cancelled, Some(Response::Cancel(v1::CancelNetworkCall { id })));
    let flow = denied.flow.unwrap().id;
    decider.released(flow).await;
    decider.decide(id, with_middleware());
    let again = connect(&world, &mut decider, port, |_| decided(accept())).await;
    talk(&mut again.expect("accepted"), "later").await;
}

#[tokio::test]
async fn a_second_answer_is_told_and_changes_nothing() {
    let port = echo().await;
    let (world, mut decider) = World::asking(0).await;
    let (opened, ()) = tokio::join!(world.connect(port), async {
        let (id, _) = decider.flow().await;
        decider.decide(id, accept());
        decider.decide(id, Decision::Deny(v1::DenyFlow::default()));
    });
    talk(&mut opened.expect("accepted"), "hello").await;
    until("it is told", || !world.faults().is_empty()).await;
    assert!(world.faults()[0].contains("answered twice"), "{:?}", world.faults());
}

#[tokio::test]
async fn a_client_that_leaves_denies_everything_and_flows_go_on() {
    let port = echo().await;
    let (world, mut decider) = World::asking(0).await;
    let opened = connect(&world, &mut decider, port, |_| decided(accept())).await;
    let mut opened = opened.expect("accepted");
    let (pending, ()) = tokio::join!(world.connect(port), async {
        decider.flow().await;
        drop(decider);
    });
    pending.expect_err("denied");
    world.connect(port).await.expect_err("denied");
    let denied = world.denial(port).await;
    assert_eq!(denied.reason(), v1::FlowDenial::PolicyFailed);
    talk(&mut opened, "still").await;
    until("it is told once", || world.faults().len() == 1).await;
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_loses_the_stream() {
    let attached = v1::AttachNetwork { id: "two".to_owned(), credits: 1 };
    let never = v1::NetworkAnswer { id: 77, answer: decided(accept()) };
    for (request, named) in
        [(Request::Answer(never), "answer.id"), (Request::Attach(attached), "attach")]
    {
        let port = echo().await;
        let (world, mut decider) = World::asking(0).await;
        decider.say(request);
        let error = detail(soon(decider.next()).await);
        assert_code(&error, ErrorCode::InvalidArgument);
        assert!(error.message.contains(named), "{error:?}");
        world.connect(port).await.expect_err("denied");
    }
}

#[tokio::test]
async fn a_pending_question_stays_with_its_policy_and_ends_with_the_machine() {
    let port = echo().await;
    let (world, mut decider) = World::asking(0).await;
    let other = attach(&world.helper, "two", 1).await.unwrap();
    let (refused, ()) = tokio::join!(world.connect(port), async {
        decider.flow().await;
        world.set_policy(asks("two")).await.unwrap();
        world.helper.engine.remote().await.reset();
    });
    refused.expect_err("the machine has ended");
    decider.ended().await;
    other.ended().await;
}

#[tokio::test]
async fn only_so_many_policies_live_at_a_time() {
    let (world, mut first) = World::asking(0).await;
    let (origin, _) = crate::servers::origin(None).await;
    let mut kept = Vec::new();
    let mut refused = None;
    for number in 0..sandbox_host::limits::MAX_NETWORK_POLICIES {
        let decider = kept.last_mut().map_or(&mut first, |(decider, _)| decider);
        let opened = connect(&world, decider, origin, |_| decided(with_middleware())).await;
        let opened = opened.expect("accepted");
        let id = format!("more-{number}");
        let next = attach(&world.helper, &id, 1).await.unwrap();
        match world.set_policy(asks(&id)).await {
            Ok(()) => kept.push((next, opened)),
            Err(error) => refused = Some(error),
        }
    }
    let error = detail(Err::<(), _>(refused.expect("one too many")));
    assert_code(&error, ErrorCode::LimitExceeded);
    let most = sandbox_host::limits::MAX_NETWORK_POLICIES as usize;
    assert_eq!(kept.len(), most - 1);
}
