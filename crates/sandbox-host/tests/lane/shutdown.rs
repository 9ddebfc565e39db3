//! Shutdown: in every state, any number of times.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use protocol::ErrorCode;
use protocol::v1::ExitReason;
use protocol::v1::watch_response::Event;

use crate::client::{Helper, assert_code, command, detail, soon};
use crate::guest::{Script, ShutdownAct, step};

fn acts(shutdown: ShutdownAct) -> Script {
    Script { shutdown, ..Script::default() }
}

#[tokio::test]
async fn guest_that_stops_is_closed_and_its_problems_are_warnings() {
    let helper = Helper::booted(Script::default()).await;
    let exited = helper.shutdown(0).await.unwrap();
    assert_eq!(exited.reason(), ExitReason::Closed);
    assert_eq!((exited.engine_exit_code, exited.engine_signal.as_str()), (Some(0), ""));
    assert_eq!(helper.engine.alive(), 0);
    let error = detail(helper.run(command("echo", &[])).await);
    assert_code(&error, ErrorCode::SandboxExited);
}

#[tokio::test]
async fn concurrent_and_later_calls_all_get_the_same_answer() {
    let helper = Helper::booted(Script::default()).await;
    let (one, two, three) =
        tokio::join!(helper.shutdown(0), helper.shutdown(5000), helper.shutdown(0));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_eq!(one, three.unwrap());
    assert_eq!(one, helper.shutdown(1).await.unwrap());
}

#[tokio::test]
async fn guest_that_hangs_is_killed_at_the_shortest_deadline() {
    let helper = Helper::booted(acts(ShutdownAct::Hang)).await;
    let patient = helper.shutdown(600_000);
    let hasty = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        helper.shutdown(200).await
    };
    let (patient, hasty) = tokio::join!(patient, hasty);
    let patient = patient.unwrap();
    assert_eq!(patient.reason(), ExitReason::Killed);
    assert_eq!(patient.engine_signal, "SIGKILL");
    assert_eq!(patient, hasty.unwrap());
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn guest_that_stops_without_an_answer_is_closed_all_the_same() {
    let helper = Helper::booted(acts(ShutdownAct::StopWithoutAnswer)).await;
    assert_eq!(helper.shutdown(0).await.unwrap().reason(), ExitReason::Closed);
}

#[tokio::test]
async fn processes_that_run_hear_of_the_end() {
    let helper = Helper::booted(acts(ShutdownAct::Hang)).await;
    let run = helper.run(command("sleep", &[]));
    let close = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        helper.shutdown(100).await
    };
    let (run, close) = tokio::join!(run, close);
    assert_eq!(close.unwrap().reason(), ExitReason::Killed);
    assert_code(&detail(run), ErrorCode::SandboxExited);
}

#[tokio::test]
async fn new_work_is_refused_while_closing() {
    let helper = Helper::booted(acts(ShutdownAct::Hang)).await;
    let close = helper.shutdown(400);
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        helper.run(command("echo", &[])).await
    };
    let (_, late) = tokio::join!(close, late);
    assert_code(&detail(late), ErrorCode::SandboxClosed);
}

#[tokio::test]
async fn shutdown_during_the_boot_ends_it() {
    let configure = |_| Ok(stream::iter([step("mount-root")]).chain(stream::pending()).boxed());
    let script = Script { configure: Arc::new(configure), ..Script::default() };
    let helper = Helper::start(script).await;
    let mut sandbox = helper.sandbox.clone();
    let boot = sandbox.boot(helper.files.request());
    let close = async {
        helper.engine.remote().await;
        helper.shutdown(0).await
    };
    let (boot, close) = soon(async { tokio::join!(boot, close) }).await;
    assert_code(&detail(boot), ErrorCode::SandboxClosed);
    assert_eq!(close.unwrap().reason(), ExitReason::Closed);
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn helper_that_never_booted_can_be_closed() {
    let helper = Helper::start(Script::default()).await;
    assert_eq!(helper.shutdown(0).await.unwrap().reason(), ExitReason::Closed);
    let error = detail(soon(helper.sandbox.clone().boot(helper.files.request())).await);
    assert_code(&error, ErrorCode::InvalidArgument);
    let events = helper.watch_to_the_end().await;
    assert!(matches!(events.last(), Some(Event::Exited(_))));
}

#[tokio::test]
async fn deadline_out_of_range_is_refused_and_closes_nothing() {
    let helper = Helper::booted(Script::default()).await;
    let error = detail(helper.shutdown(600_001).await);
    assert_code(&error, ErrorCode::InvalidArgument);
    helper.run(command("echo", &[])).await.unwrap();
}
