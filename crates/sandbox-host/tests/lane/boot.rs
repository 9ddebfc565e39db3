//! Boot: what it checks, what it announces, and that a failed one leaves nothing.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use protocol::v1::watch_response::Event;
use protocol::v1::{self, ExitReason, State};
use protocol::{ErrorCode, ErrorDetail};
use sandbox_host::server::Finish;

use crate::client::{Helper, assert_code, command, detail, soon, until};
use crate::engine::FakeEngine;
use crate::guest::{Script, configured, step};

async fn boot(helper: &Helper, request: v1::BootRequest) -> ErrorDetail {
    detail(soon(helper.sandbox.clone().boot(request)).await)
}

/// After a failed boot: nothing runs, and everybody is told.
async fn assert_nothing_is_left(helper: &Helper) {
    assert_eq!(helper.engine.alive(), 0);
    let status = helper.status().await;
    assert_eq!(status.state(), State::Exited);
    let Some(Event::Exited(exited)) = helper.watch_to_the_end().await.pop() else { panic!() };
    assert_eq!(exited.reason(), ExitReason::BootFailed);
}

#[tokio::test]
async fn boot_announces_its_steps_and_returns_when_processes_run() {
    let mut helper = Helper::start(Script::default()).await;
    let watch = soon(helper.sandbox.watch(v1::WatchRequest {})).await.unwrap().into_inner();
    let booted = soon(helper.sandbox.boot(helper.files.request())).await.unwrap().into_inner();
    assert_eq!(booted.engine(), v1::EngineKind::Qemu);
    assert_eq!(booted.isolation(), v1::IsolationKind::Emulated);
    // The engine's part, and the helper's.
    assert_eq!(booted.detail.split("; ").next(), Some("played"));
    assert!(booted.detail.contains("not confined"), "{}", booted.detail);
    assert_eq!(booted.kernel_release, "6.1.0-played");
    assert_eq!(helper.run(command("echo", &["hello"])).await.unwrap().stdout, b"hello\n");
    helper.shutdown(0).await.unwrap();

    let events: Vec<_> = soon(watch.map(|event| event.unwrap().event.unwrap()).collect()).await;
    let steps: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::BootStep(step) => Some(step.name.as_str()),
            _ => None,
        })
        .collect();
    let expected = [
        "probe",
        "open-artifacts",
        "open-mounts",
        "start-engine",
        "connect-guest",
        "mount-root",
        "set-hostname",
    ];
    assert_eq!(steps, expected);
    let states: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::StateChanged(change) => Some(change.state()),
            _ => None,
        })
        .collect();
    use State::{Booting, Closing, Exited, Idle, Running};
    assert_eq!(states, [Idle, Booting, Running, Closing, Exited]);
    assert!(events.iter().any(|event| matches!(event, Event::Console(console)
        if console.data.as_ref() == b"init: configuring\n")));
    assert!(matches!(events.last(), Some(Event::Exited(_))));
}

#[tokio::test]
async fn bad_request_names_its_field_and_costs_nothing() {
    let helper = Helper::start(Script::default()).await;
    let mut request = helper.files.request();
    request.cpus = 0;
    let error = boot(&helper, request).await;
    assert_code(&error, ErrorCode::InvalidArgument);
    assert!(error.message.contains("cpus"), "{error:?}");
    // The helper's one boot is not used up by it.
    soon(helper.sandbox.clone().boot(helper.files.request())).await.unwrap();
}

#[tokio::test]
async fn isolation_that_no_engine_gives_is_refused_with_a_remedy() {
    let helper = Helper::start(Script::default()).await;
    let mut request = helper.files.request();
    request.minimum_isolation = v1::IsolationKind::Hardware.into();
    let error = boot(&helper, request).await;
    assert_code(&error, ErrorCode::IsolationUnavailable);
    assert!(!error.remedy.is_empty());
    assert_nothing_is_left(&helper).await;
}

#[tokio::test]
async fn missing_and_wrong_files_are_told_apart_and_named() {
    for name in ["kernel", "initramfs", "root"] {
        let helper = Helper::start(Script::default()).await;
        let request = helper.files.request();
        fs::remove_file(helper.files.path(name)).unwrap();
        let error = boot(&helper, request).await;
        assert_code(&error, ErrorCode::ArtifactMissing);
        assert!(error.message.contains(helper.files.path(name).to_str().unwrap()), "{error:?}");
        assert_eq!(error.errno, "ENOENT");
        assert!(!error.remedy.is_empty());
        assert_nothing_is_left(&helper).await;

        let helper = Helper::start(Script::default()).await;
        let request = helper.files.request();
        let size = fs::metadata(helper.files.path(name)).unwrap().len();
        fs::write(helper.files.path(name), vec![1; usize::try_from(size).unwrap()]).unwrap();
        let error = boot(&helper, request).await;
        assert_code(&error, ErrorCode::ArtifactInvalid);
        assert_eq!(error.message.matches("sha256:").count(), 2, "{error:?}");
        assert_nothing_is_left(&helper).await;
    }
}

#[tokio::test]
async fn root_image_of_another_size_is_refused_before_the_engine_starts() {
    let helper = Helper::start(Script::default()).await;
    let mut request = helper.files.request();
    request.root.as_mut().unwrap().size_bytes += 512;
    assert_code(&boot(&helper, request).await, ErrorCode::ArtifactInvalid);
    assert_eq!(helper.status().await.boot_step, "open-artifacts");
}

#[tokio::test]
async fn image_that_is_not_of_its_format_is_refused_before_the_engine_starts() {
    let helper = Helper::start(Script::default()).await;
    let mut request = helper.files.request();
    request.root.as_mut().unwrap().format = v1::DiskFormat::Qcow2.into();
    let error = boot(&helper, request).await;
    assert_code(&error, ErrorCode::ArtifactInvalid);
    assert!(error.message.contains("qcow2"), "{error:?}");
    assert_eq!(helper.status().await.boot_step, "open-artifacts");
    assert_nothing_is_left(&helper).await;
}

#[tokio::test]
async fn second_boot_is_refused_whatever_became_of_the_first() {
    let helper = Helper::booted(Script::default()).await;
    assert_code(&boot(&helper, helper.files.request()).await, ErrorCode::InvalidArgument);
    helper.shutdown(0).await.unwrap();
    assert_code(&boot(&helper, helper.files.request()).await, ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn guest_that_refuses_a_step_fails_the_boot_with_step_and_errno() {
    let failure = || {
        let detail = ErrorDetail::new(ErrorCode::BootFailed, "The root does not mount");
        Err(detail.with_step("mount-root").with_errno("EINVAL").into())
    };
    let configure = move |_| Ok(stream::iter([step("mount-root"), failure()]).boxed());
    let script = Script { configure: Arc::new(configure), ..Script::default() };
    let helper = Helper::start(script).await;
    let error = boot(&helper, helper.files.request()).await;
    assert_code(&error, ErrorCode::BootFailed);
    assert_eq!((error.step.as_str(), error.errno.as_str()), ("mount-root", "EINVAL"));
    assert!(error.console_tail.contains("init: configuring"), "{error:?}");
    assert_nothing_is_left(&helper).await;
    assert_eq!(helper.status().await.boot_error.unwrap().step, "mount-root");
}

#[tokio::test]
async fn guest_that_never_speaks_fails_the_boot_at_its_deadline() {
    let engine = FakeEngine::new(Box::new(|control, remote| {
        Box::pin(async move {
            remote.print("Linux version 6.1\n").await;
            std::future::pending::<()>().await;
            drop(control);
        })
    }));
    let helper = Helper::with_engine(engine, None).await;
    let mut request = helper.files.request();
    request.deadline_ms = 300;
    let error = boot(&helper, request).await;
    assert_code(&error, ErrorCode::BootFailed);
    assert_eq!(error.step, "connect-guest");
    assert!(error.message.contains("300 ms"), "{error:?}");
    assert!(error.console_tail.contains("Linux version"), "{error:?}");
    assert_nothing_is_left(&helper).await;
}

#[tokio::test]
async fn guest_that_hangs_in_a_step_fails_the_boot_in_that_step() {
    let configure = |_| Ok(stream::iter([step("mount-root")]).chain(stream::pending()).boxed());
    let script = Script { configure: Arc::new(configure), ..Script::default() };
    let helper = Helper::start(script).await;
    let mut request = helper.files.request();
    request.deadline_ms = 300;
    let error = boot(&helper, request).await;
    assert_eq!((error.code(), error.step.as_str()), (ErrorCode::BootFailed, "mount-root"));
    assert_nothing_is_left(&helper).await;
}

#[tokio::test]
async fn engine_that_ends_during_the_boot_fails_it_with_the_console() {
    let engine = FakeEngine::new(Box::new(|control, remote| {
        Box::pin(async move {
            remote.print("Kernel panic - not syncing: no init\n").await;
            remote.reset();
            drop(control);
        })
    }));
    let helper = Helper::with_engine(engine, None).await;
    let error = boot(&helper, helper.files.request()).await;
    assert_code(&error, ErrorCode::BootFailed);
    assert_eq!(error.step, "connect-guest");
    assert!(error.console_tail.contains("no init"), "{error:?}");
    assert_nothing_is_left(&helper).await;
}

#[tokio::test]
async fn cancelled_boot_leaves_nothing() {
    let configure = |_| Ok(stream::iter([step("mount-root")]).chain(stream::pending()).boxed());
    let script = Script { configure: Arc::new(configure), ..Script::default() };
    let helper = Helper::start(script).await;
    let mut sandbox = helper.sandbox.clone();
    let request = helper.files.request();
    let call = tokio::spawn(async move { sandbox.boot(request).await });
    helper.engine.remote().await;
    call.abort();
    until("the machine is gone", || helper.engine.alive() == 0).await;
    assert_nothing_is_left(&helper).await;
}

#[tokio::test]
async fn client_that_leaves_takes_the_machine_and_the_helper_with_it() {
    let Helper { sandbox, process, engine, task, .. } = Helper::booted(Script::default()).await;
    assert_eq!(engine.alive(), 1);
    drop((sandbox, process));
    assert_eq!(soon(task).await.unwrap().unwrap(), Finish::ClientLeft);
    assert_eq!(engine.alive(), 0);
}

#[tokio::test]
async fn client_that_leaves_during_the_boot_takes_everything_with_it() {
    let configure = |_| Ok(stream::iter([step("mount-root")]).chain(stream::pending()).boxed());
    let script = Script { configure: Arc::new(configure), ..Script::default() };
    let Helper { sandbox, process, engine, task, files, .. } = Helper::start(script).await;
    let request = files.request();
    let mut caller = sandbox.clone();
    let call = tokio::spawn(async move { caller.boot(request).await });
    engine.remote().await;
    call.abort();
    drop((sandbox, process));
    assert_eq!(soon(task).await.unwrap().unwrap(), Finish::ClientLeft);
    assert_eq!(engine.alive(), 0);
}

#[tokio::test]
async fn helper_that_is_told_to_end_kills_the_machine() {
    let mut helper = Helper::booted(Script::default()).await;
    helper.tell.take().unwrap().send(()).unwrap();
    assert_eq!(soon(helper.task).await.unwrap().unwrap(), Finish::Told);
    assert_eq!(helper.engine.alive(), 0);
}

#[tokio::test]
async fn processes_wait_for_the_boot() {
    let configure = |_| {
        let late = stream::once(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            configured()
        });
        Ok(late.boxed())
    };
    let script = Script { configure: Arc::new(configure), ..Script::default() };
    let helper = Helper::start(script).await;
    let early = detail(helper.run(command("echo", &[])).await);
    assert_code(&early, ErrorCode::InvalidArgument);
    soon(helper.sandbox.clone().boot(helper.files.request())).await.unwrap();
    helper.run(command("echo", &[])).await.unwrap();
}
