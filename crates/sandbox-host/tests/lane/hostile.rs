//! Guests that break the protocol.

use std::sync::Arc;

use engine::ExitReason;
use futures::{StreamExt, stream};
use protocol::guest::v1::ConfigureResponse;
use protocol::v1::run_response::Response as Out;
use protocol::v1::watch_response::Event;
use protocol::v1::{ExitReason as Reason, ProcessExited, RunResponse};
use protocol::{ErrorCode, ErrorDetail};
use sandbox_host::limits::OUTPUT_MESSAGE_BYTES;
use tokio::io::AsyncWriteExt;
use tonic::Status;

use crate::client::{Helper, assert_code, command, detail, soon};
use crate::engine::FakeEngine;
use crate::guest::{Script, exited, item, started, stdout, step};

#[tokio::test]
async fn answers_of_run_that_break_the_protocol_fail_that_call() {
    let signalled = ProcessExited { signal: 900, ..ProcessExited::default() };
    let other_code = ErrorDetail::new(ErrorCode::IsolationUnavailable, "x");
    let cases: [(&str, Vec<Result<RunResponse, Status>>); 11] = [
        ("output first", vec![stdout("x")]),
        ("exit first", vec![exited(0)]),
        ("init", vec![started(1)]),
        ("impossible process", vec![started(u32::MAX)]),
        ("started twice", vec![started(5), started(5)]),
        ("empty message", vec![started(5), Ok(RunResponse { response: None })]),
        ("oversized", vec![started(5), stdout(vec![0; OUTPUT_MESSAGE_BYTES + 1])]),
        ("huge", vec![started(5), stdout(vec![0; 3 * 1024 * 1024])]),
        ("bad status", vec![started(5), exited(256)]),
        ("bad signal", vec![started(5), item(Out::Exited(signalled))]),
        ("a code of ours", vec![started(5), Err(other_code.into())]),
    ];
    for (name, answers) in cases {
        let helper = Helper::booted(Script::run_answers(answers)).await;
        let error = detail(helper.run(command("x", &[])).await);
        assert_eq!(error.code(), ErrorCode::GuestProtocol, "{name}: {error:?}");
        // The lane itself goes on: the call was refused, not the machine.
        assert_eq!(helper.status().await.running_processes, 0, "{name}");
        helper.shutdown(0).await.unwrap();
    }
}

#[tokio::test]
async fn run_that_ends_without_the_process_or_goes_on_after_it_is_refused() {
    let ends = |items: Vec<Result<RunResponse, Status>>| {
        let run = move |_| Ok(stream::iter(items.clone()).boxed());
        Script { run: Some(Arc::new(run)), ..Script::default() }
    };
    for script in
        [ends(vec![]), ends(vec![started(5)]), ends(vec![started(5), exited(0), stdout("x")])]
    {
        let helper = Helper::booted(script).await;
        let error = detail(helper.run(command("x", &[])).await);
        assert_code(&error, ErrorCode::GuestProtocol);
    }
}

#[tokio::test]
async fn set_up_that_breaks_the_protocol_fails_the_boot() {
    let empty = || Ok(ConfigureResponse { response: None });
    let cases: [(&str, Vec<Result<ConfigureResponse, Status>>); 5] = [
        ("ill-formed step", vec![step("Mount Root\x1b[2J")]),
        ("empty message", vec![empty()]),
        ("no answer", vec![step("mount-root")]),
        ("endless steps", (0..1000).map(|_| step("again")).collect()),
        ("a code of ours", vec![Err(ErrorDetail::new(ErrorCode::ArtifactMissing, "x").into())]),
    ];
    for (name, answers) in cases {
        let configure = move |_| Ok(stream::iter(answers.clone()).boxed());
        let script = Script { configure: Arc::new(configure), ..Script::default() };
        let helper = Helper::start(script).await;
        let error = detail(soon(helper.sandbox.clone().boot(helper.files.request())).await);
        assert_eq!(error.code(), ErrorCode::GuestProtocol, "{name}: {error:?}");
        assert_eq!(helper.engine.alive(), 0, "{name}");
    }
}

#[tokio::test]
async fn guest_that_speaks_no_http2_fails_the_boot() {
    let engine = FakeEngine::new(Box::new(|mut control, _remote| {
        Box::pin(async move {
            control.write_all(&[0x55; 4096]).await.unwrap();
            std::future::pending::<()>().await;
        })
    }));
    let helper = Helper::with_engine(engine, None).await;
    let error = detail(soon(helper.sandbox.clone().boot(helper.files.request())).await);
    assert_code(&error, ErrorCode::BootFailed);
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn guest_that_hangs_up_is_ended_and_every_call_hears_why() {
    let helper = Helper::booted(Script::default()).await;
    let remote = helper.engine.remote().await;
    let run = helper.run(command("sleep", &[]));
    let watch = helper.watch_to_the_end();
    let (ran, events, _) = tokio::join!(run, watch, async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        remote.hang_up();
    });
    let error = detail(ran);
    assert_code(&error, ErrorCode::SandboxExited);
    let Some(Event::Exited(exited)) = events.last() else { panic!("{events:?}") };
    assert_eq!(exited.reason(), Reason::GuestStopped);
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn guest_that_hung_up_can_be_closed_at_once() {
    let helper = Helper::booted(Script::default()).await;
    helper.engine.remote().await.hang_up();
    let error = detail(helper.run(command("echo", &[])).await);
    assert_code(&error, ErrorCode::SandboxExited);
    let helper = Helper::booted(Script::default()).await;
    helper.engine.remote().await.hang_up();
    assert_eq!(helper.shutdown(600_000).await.unwrap().reason(), Reason::GuestStopped);
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn everything_pending_hears_of_the_end_with_its_reason_and_the_console() {
    let cases = [
        (
            "Kernel panic - not syncing: x\n",
            ExitReason::GuestReset,
            Some(0),
            None,
            Reason::GuestPanicked,
        ),
        ("reboot: Restarting\n", ExitReason::GuestReset, Some(0), None, Reason::GuestStopped),
        ("half a li", ExitReason::Failed, None, Some(9), Reason::EngineFailed),
        ("half a li", ExitReason::Failed, Some(1), None, Reason::EngineFailed),
    ];
    for (text, reason, code, signal, expected) in cases {
        let helper = Helper::booted(Script::default()).await;
        let remote = helper.engine.remote().await;
        let (one, two) = (helper.run(command("sleep", &[])), helper.run(command("flood", &[])));
        let watch = helper.watch_to_the_end();
        let (one, two, events, ()) = tokio::join!(one, two, watch, async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            remote.print(text).await;
            remote.exit(reason, code, signal);
        });
        for error in [detail(one), detail(two)] {
            assert_code(&error, ErrorCode::SandboxExited);
            assert!(error.console_tail.contains(text.trim()), "{error:?}");
        }
        let Some(Event::Exited(exited)) = events.last() else { panic!("{events:?}") };
        assert_eq!(exited.reason(), expected, "{exited:?}");
        assert!(exited.console_tail.contains(text.trim()));
        let late = detail(helper.run(command("echo", &[])).await);
        assert_code(&late, ErrorCode::SandboxExited);
        // Closing what has ended tells how it ended.
        assert_eq!(helper.shutdown(0).await.unwrap().reason(), expected);
    }
}
