//! Calls to a helper, wherever it runs, and what tests say of their answers.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use protocol::v1::run_request::Request as In;
use protocol::v1::run_response::Response as Out;
use protocol::v1::{RunRequest, RunResponse, StartProcess};
use protocol::{ErrorCode, ErrorDetail};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Nothing in these tests takes long; what does hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must come.
pub(crate) async fn soon<T>(wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wanted).await.expect("it must come")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// One HTTP/2 connection over a socket.
pub(crate) async fn channel(socket: UnixStream) -> Channel {
    let mut socket = Some(TokioIo::new(socket));
    let connector = tower::service_fn(move |_| {
        let socket = socket.take();
        async { socket.ok_or_else(|| std::io::Error::other("one connection")) }
    });
    // As the helper does: a window of the connection that no unread stream can fill.
    Endpoint::from_static("http://helper")
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(512 * 1024 * 1024)
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// What a process did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) pid: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) exit_code: Option<u32>,
}

pub(crate) async fn collect(mut answers: Streaming<RunResponse>) -> Result<Ran, Status> {
    let mut ran = Ran::default();
    while let Some(answer) = answers.message().await? {
        match answer.response.unwrap() {
            Out::Started(started) => ran.pid = started.pid,
            Out::Stdout(data) => ran.stdout.extend_from_slice(&data),
            Out::Stderr(_) => {}
            Out::Exited(exited) => ran.exit_code = exited.exit_code,
        }
    }
    Ok(ran)
}

pub(crate) fn command(name: &str, args: &[&str]) -> StartProcess {
    StartProcess {
        command: name.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..StartProcess::default()
    }
}

pub(crate) fn first(start: StartProcess) -> RunRequest {
    RunRequest { request: Some(In::Start(start)) }
}

pub(crate) fn stdin(data: impl Into<Bytes>) -> RunRequest {
    RunRequest { request: Some(In::Stdin(data.into())) }
}

/// The detail of an error that must be one.
pub(crate) fn detail<T: std::fmt::Debug>(result: Result<T, Status>) -> ErrorDetail {
    let status = result.expect_err("it must fail");
    protocol::status::detail(&status).unwrap_or_else(|| panic!("no detail in {status:?}"))
}

pub(crate) fn assert_code(detail: &ErrorDetail, code: ErrorCode) {
    assert_eq!(detail.code(), code, "{detail:?}");
}
