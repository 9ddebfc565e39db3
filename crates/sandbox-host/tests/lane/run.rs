//! Run: input, output, cancellation, backpressure, limits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, stream};
use prost::Message;
use protocol::ErrorCode;
use protocol::v1::run_request::Request as In;
use protocol::v1::{
    CloseStdin, ResizeRequest, RunRequest, SignalRequest, StartProcess, TerminalSize, WaitRequest,
};
use sandbox_host::debug::DebugSocket;
use sandbox_host::limits::MAX_RUNS;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::{
    Helper, Ran, assert_code, collect, command, detail, first, soon, stdin, until,
};
use crate::engine::FakeEngine;
use crate::guest::Script;

fn with_stdin(name: &str) -> StartProcess {
    StartProcess { stdin: true, ..command(name, &[]) }
}

#[tokio::test]
async fn a_command_gives_its_output_and_its_status() {
    let helper = Helper::booted(Script::default()).await;
    let ran = helper.run(command("echo", &["a", "b"])).await.unwrap();
    assert_eq!(ran, Ran { pid: 42, stdout: b"a b\n".to_vec(), exit_code: Some(0) });
    assert_eq!(helper.status().await.running_processes, 0);
}

#[tokio::test]
async fn standard_input_and_its_end_reach_the_process() {
    let script = Script::default();
    let seen = script.seen.clone();
    let helper = Helper::booted(script).await;
    let half_closed = [first(with_stdin("cat")), stdin("one "), stdin("two")];
    let ran = collect(helper.open(stream::iter(half_closed)).await.unwrap()).await.unwrap();
    assert_eq!(ran.stdout, b"one two");
    let close = RunRequest { request: Some(In::CloseStdin(CloseStdin {})) };
    let said = stream::iter([first(with_stdin("cat")), stdin("three"), close]);
    let open = said.chain(stream::pending());
    let ran = soon(collect(helper.open(open).await.unwrap())).await.unwrap();
    assert_eq!(ran.stdout, b"three");
    assert_eq!(seen.closed_stdin.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn process_that_does_not_start_is_an_error_of_the_call() {
    let helper = Helper::booted(Script::default()).await;
    let error = detail(helper.run(command("nothing", &[])).await);
    assert_code(&error, ErrorCode::CommandNotFound);
    assert_eq!(error.errno, "ENOENT");
}

#[tokio::test]
async fn cancelling_reaches_the_guest() {
    let script = Script::default();
    let seen = script.seen.clone();
    let helper = Helper::booted(script).await;
    let answers = helper.open(stream::iter([first(command("sleep", &[]))])).await.unwrap();
    until("it runs", || seen.running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(helper.status().await.running_processes, 1);
    drop(answers);
    until("it is cancelled", || seen.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(helper.status().await.running_processes, 0);
}

#[tokio::test]
async fn reset_of_a_call_with_open_input_reaches_the_guest_as_no_end_of_input() {
    let script = Script::default();
    let seen = script.seen.clone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("debug");
    let debug = DebugSocket::bind(&path).unwrap();
    let mut helper = Helper::with_engine(FakeEngine::new(script.player()), Some(debug)).await;
    soon(helper.sandbox.boot(helper.files.request())).await.unwrap();
    // As Node resets a stream: hyper's client would wait for the end of the request.
    let socket = UnixStream::connect(&path).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    for round in 1..=20 {
        let request = http::Request::post("http://helper/lanebox.v1.ProcessService/Run")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        client = soon(client.ready()).await.unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        let message = first(with_stdin("cat")).encode_to_vec();
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&message);
        body.send_data(frame.into(), false).unwrap();
        soon(answer).await.unwrap();
        assert_eq!(seen.running.load(Ordering::SeqCst), 1);
        body.send_reset(h2::Reason::CANCEL);
        until("it is cancelled", || seen.cancelled.load(Ordering::SeqCst) == round).await;
    }
    assert_eq!(seen.running.load(Ordering::SeqCst), 0);
    assert_eq!(helper.status().await.running_processes, 0);
}

#[tokio::test]
async fn process_that_ends_with_open_input_ends_the_call_on_both_sides() {
    let script = Script::default();
    let seen = script.seen.clone();
    let helper = Helper::booted(script).await;
    for _ in 0..200 {
        let open = stream::iter([first(with_stdin("true"))]).chain(stream::pending());
        soon(collect(helper.open(open).await.unwrap())).await.unwrap();
    }
    until("no call is left", || seen.running.load(Ordering::SeqCst) == 0).await;
    assert_eq!(seen.cancelled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn output_that_nobody_reads_stops_its_writer_and_no_other() {
    let script = Script::default();
    let seen = script.seen.clone();
    let helper = Helper::booted(script).await;
    let mut unread = Vec::new();
    for _ in 0..40 {
        unread.push(helper.open(stream::iter([first(command("flood", &[]))])).await.unwrap());
    }
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = seen.flooded.load(Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    // Windows and buffers of two hops, a stream each.
    assert!(before < 40 * 4 * 1024 * 1024, "{before} bytes are on their way");
    let ran = helper.run(command("echo", &["alive"])).await.unwrap();
    assert_eq!(ran.stdout, b"alive\n");
    // Reading lets the writer go on.
    let mut one = unread.pop().unwrap();
    for _ in 0..200 {
        soon(one.message()).await.unwrap().unwrap();
    }
    assert!(seen.flooded.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn input_that_nobody_reads_stops_its_writer_and_no_other() {
    let helper = Helper::booted(Script::default()).await;
    let mut writers = Vec::new();
    for _ in 0..8 {
        let (send, requests) = mpsc::channel(1);
        send.send(first(with_stdin("sleep"))).await.unwrap();
        let answers = helper.open(ReceiverStream::new(requests)).await.unwrap();
        let writer = tokio::spawn(async move {
            let mut sent = 0;
            let piece = bytes::Bytes::from(vec![0; 256 * 1024]);
            while tokio::time::timeout(Duration::from_secs(1), send.send(stdin(piece.clone())))
                .await
                .is_ok_and(|sent| sent.is_ok())
            {
                sent += piece.len();
            }
            (sent, send)
        });
        writers.push((writer, answers));
    }
    for (writer, _answers) in &mut writers {
        let (sent, _) = soon(writer).await.unwrap();
        assert!(sent < 8 * 1024 * 1024, "{sent} bytes were taken");
    }
    assert_eq!(helper.run(command("echo", &["alive"])).await.unwrap().stdout, b"alive\n");
}

#[tokio::test]
async fn many_run_at_once_and_one_too_many_is_refused() {
    let script = Script::default();
    let seen = script.seen.clone();
    let helper = Helper::booted(script).await;
    let mut running = Vec::new();
    for _ in 0..MAX_RUNS {
        running.push(helper.open(stream::iter([first(command("sleep", &[]))])).await.unwrap());
    }
    let refused = detail(helper.open(stream::iter([first(command("echo", &[]))])).await);
    assert_code(&refused, ErrorCode::LimitExceeded);
    assert!(refused.message.contains(&MAX_RUNS.to_string()), "{refused:?}");
    let signal = SignalRequest { pid: 44, signal: "SIGTERM".to_owned() };
    soon(helper.process.clone().signal(signal)).await.unwrap();
    drop(running);
    until("all are cancelled", || seen.running.load(Ordering::SeqCst) == 0).await;
    helper.run(command("echo", &[])).await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_the_host() {
    let script = Script::default();
    let seen = script.seen.clone();
    let helper = Helper::booted(script).await;
    let nothing = helper.open(stream::empty()).await;
    assert_code(&detail(nothing), ErrorCode::InvalidArgument);
    let input_first = helper.open(stream::iter([stdin("x")])).await;
    assert_code(&detail(input_first), ErrorCode::InvalidArgument);
    let no_command = helper.run(StartProcess::default()).await;
    assert_code(&detail(no_command), ErrorCode::InvalidArgument);

    let twice = [first(command("sleep", &[])), first(command("sleep", &[]))];
    let not_open = [first(command("sleep", &[])), stdin("x")];
    let too_large = [first(with_stdin("sleep")), stdin(vec![0; 1024 * 1024 + 1])];
    for requests in [twice, not_open, too_large] {
        let answers = helper.open(stream::iter(requests)).await.unwrap();
        assert_code(&detail(soon(collect(answers)).await), ErrorCode::InvalidArgument);
    }
    until("the guest was told", || seen.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn signals_are_checked_and_their_answers_passed_on() {
    let helper = Helper::booted(Script::default()).await;
    let signal = |pid, name: &str| {
        let request = SignalRequest { pid, signal: name.to_owned() };
        let mut client = helper.process.clone();
        async move { soon(client.signal(request)).await }
    };
    signal(44, "SIGKILL").await.unwrap();
    assert_code(&detail(signal(43, "SIGKILL").await), ErrorCode::NotFound);
    assert_code(&detail(signal(44, "KILL").await), ErrorCode::InvalidArgument);
    assert_code(&detail(signal(1, "SIGKILL").await), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn wait_tells_the_end_and_is_believed_only_when_a_process_can_end_so() {
    let helper = Helper::booted(Script::default()).await;
    let wait = |pid| {
        let mut client = helper.process.clone();
        async move { soon(client.wait(WaitRequest { pid })).await }
    };
    let exited = wait(45).await.unwrap().into_inner().exited.unwrap();
    assert_eq!(exited.exit_code, Some(3));
    assert_code(&detail(wait(46).await), ErrorCode::GuestProtocol);
    assert_code(&detail(wait(47).await), ErrorCode::NotFound);
    assert_code(&detail(wait(1).await), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn wait_that_is_open_ends_with_the_machine() {
    let helper = Helper::booted(Script::default()).await;
    let mut client = helper.process.clone();
    let waiting = tokio::spawn(async move { client.wait(WaitRequest { pid: 44 }).await });
    // A call that comes later on the same connection is answered: the wait has reached the guest.
    let size = Some(TerminalSize { rows: 5, columns: 6 });
    soon(helper.process.clone().resize(ResizeRequest { pid: 44, size })).await.unwrap();
    helper.shutdown(0).await.unwrap();
    assert_code(&detail(soon(waiting).await.unwrap()), ErrorCode::SandboxExited);
}

#[tokio::test]
async fn resize_reaches_the_guest_with_sizes_that_are_some() {
    let helper = Helper::booted(Script::default()).await;
    let resize = |pid, rows| {
        let mut client = helper.process.clone();
        let size = Some(TerminalSize { rows, columns: 6 });
        async move { soon(client.resize(ResizeRequest { pid, size })).await }
    };
    resize(44, 5).await.unwrap();
    assert_code(&detail(resize(45, 5).await), ErrorCode::NotFound);
    assert_code(&detail(resize(44, 0).await), ErrorCode::InvalidArgument);
}
