//! A guest that behaves, and the places where a test makes it behave otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use protocol::guest::v1::configure_response::Response as Answer;
use protocol::guest::v1::guest_service_server::{GuestService, GuestServiceServer};
use protocol::guest::v1::process_service_server::{ProcessService, ProcessServiceServer};
use protocol::guest::v1::{
    AnnounceChangesRequest, AnnounceChangesResponse, ConfigureRequest, ConfigureResponse,
    Configured, GetUsageRequest, GetUsageResponse, SetClockRequest, SetClockResponse,
    ShutdownRequest, ShutdownResponse, StepStarted,
};
use protocol::v1::run_request::Request as In;
use protocol::v1::run_response::Response as Out;
use protocol::v1::{
    ProcessExited, ProcessStarted, ResizeRequest, ResizeResponse, RunRequest, RunResponse,
    SignalRequest, SignalResponse, TerminalSize, WaitRequest, WaitResponse,
};
use protocol::{ErrorCode, ErrorDetail};
use tokio::net::UnixStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::engine::{Player, Remote};

type Steps = BoxStream<'static, Result<ConfigureResponse, Status>>;
type Outputs = BoxStream<'static, Result<RunResponse, Status>>;
type Configure = dyn Fn(ConfigureRequest) -> Result<Steps, Status> + Send + Sync;
type Run = dyn Fn(Streaming<RunRequest>) -> Result<Outputs, Status> + Send + Sync;

/// How the guest behaves, and what it saw.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) configure: Arc<Configure>,
    /// What it says it uses; it never answers without.
    pub(crate) usage: Option<GetUsageResponse>,
    /// Instead of the behaviour of `commands`.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) shutdown: ShutdownAct,
    pub(crate) seen: Arc<Seen>,
}

/// What the guest does when it is asked to shut down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownAct {
    Stop,
    Hang,
    StopWithoutAnswer,
}

/// What the guest saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Calls of Run whose stream was dropped before its end.
    pub(crate) cancelled: AtomicUsize,
    /// Calls of Run that are under way.
    pub(crate) running: AtomicUsize,
    /// Bytes that `flood` has put on its stream.
    pub(crate) flooded: AtomicUsize,
    /// Changes that it was told of.
    pub(crate) announced: Mutex<Vec<AnnounceChangesRequest>>,
    /// Half-closes of standard input.
    pub(crate) closed_stdin: AtomicUsize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            usage: None,
            configure: Arc::new(|request| {
                assert_eq!(request.root.unwrap().device, "/dev/vda");
                assert!(request.time_unix_nanos > 1_700_000_000_000_000_000);
                Ok(stream::iter([step("mount-root"), step("set-hostname"), configured()]).boxed())
            }),
            run: None,
            shutdown: ShutdownAct::Stop,
            seen: Arc::default(),
        }
    }
}

impl Script {
    /// What plays this guest.
    pub(crate) fn player(self) -> Player {
        Box::new(|control, remote| Box::pin(serve(self, control, remote)))
    }

    /// A guest that answers each Run with these items.
    pub(crate) fn run_answers(items: Vec<Result<RunResponse, Status>>) -> Self {
        let run = move |_| Ok(stream::iter(items.clone()).chain(stream::pending()).boxed());
        Self { run: Some(Arc::new(run)), ..Self::default() }
    }
}

pub(crate) fn step(name: &str) -> Result<ConfigureResponse, Status> {
    let step = StepStarted { name: name.to_owned() };
    Ok(ConfigureResponse { response: Some(Answer::StepStarted(step)) })
}

pub(crate) fn configured() -> Result<ConfigureResponse, Status> {
    let configured = Configured { kernel_release: "6.1.0-played".to_owned(), warnings: Vec::new() };
    Ok(ConfigureResponse { response: Some(Answer::Configured(configured)) })
}

pub(crate) fn item(response: Out) -> Result<RunResponse, Status> {
    Ok(RunResponse { response: Some(response) })
}

pub(crate) fn started(pid: u32) -> Result<RunResponse, Status> {
    item(Out::Started(ProcessStarted { pid }))
}

pub(crate) fn stdout(data: impl Into<Bytes>) -> Result<RunResponse, Status> {
    item(Out::Stdout(data.into()))
}

pub(crate) fn exited(code: u32) -> Result<RunResponse, Status> {
    item(Out::Exited(ProcessExited { exit_code: Some(code), ..ProcessExited::default() }))
}

async fn serve(script: Script, control: UnixStream, remote: Remote) {
    let incoming = stream::iter([Ok::<_, std::io::Error>(control)]).chain(stream::pending());
    Server::builder()
        .add_service(GuestServiceServer::new(Init { script: script.clone(), remote }))
        .add_service(ProcessServiceServer::new(script))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

struct Init {
    script: Script,
    remote: Remote,
}

#[async_trait]
impl GuestService for Init {
    type ConfigureStream = Steps;

    async fn configure(
        &self,
        request: Request<ConfigureRequest>,
    ) -> Result<Response<Steps>, Status> {
        self.remote.print("init: configuring\n").await;
        (self.script.configure)(request.into_inner()).map(Response::new)
    }

    async fn set_clock(
        &self,
        _request: Request<SetClockRequest>,
    ) -> Result<Response<SetClockResponse>, Status> {
        Ok(Response::new(SetClockResponse {}))
    }

    async fn get_usage(
        &self,
        _request: Request<GetUsageRequest>,
    ) -> Result<Response<GetUsageResponse>, Status> {
        match self.script.usage {
            Some(usage) => Ok(Response::new(usage)),
            None => std::future::pending().await,
        }
    }

    async fn announce_changes(
        &self,
        request: Request<AnnounceChangesRequest>,
    ) -> Result<Response<AnnounceChangesResponse>, Status> {
        self.script.seen.announced.lock().unwrap().push(request.into_inner());
        Ok(Response::new(AnnounceChangesResponse {}))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownResponse>, Status> {
        assert!(request.into_inner().grace_ms <= 500);
        let remote = self.remote.clone();
        match self.script.shutdown {
            ShutdownAct::Hang => std::future::pending().await,
            ShutdownAct::StopWithoutAnswer => remote.reset(),
            ShutdownAct::Stop => {
                // As init does: answer, then reset.
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    remote.reset();
                });
            }
        }
        Ok(Response::new(ShutdownResponse { problems: vec!["/mnt is busy".to_owned()] }))
    }
}

#[async_trait]
impl ProcessService for Script {
    type RunStream = Outputs;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Outputs>, Status> {
        let mut requests = request.into_inner();
        if let Some(run) = &self.run {
            return run(requests).map(Response::new);
        }
        let Some(In::Start(start)) = requests.message().await?.and_then(|first| first.request)
        else {
            panic!("the host must begin with start");
        };
        let seen = self.seen.clone();
        let under_way = UnderWay::new(seen.clone());
        let output: Outputs = match start.command.as_str() {
            "echo" => {
                let text = start.args.join(" ") + "\n";
                stream::iter([started(42), stdout(text), exited(0)]).boxed()
            }
            "cat" => stream::iter([started(43)]).chain(cat(requests, seen)).boxed(),
            "sleep" => stream::iter([started(44)]).chain(stream::pending()).boxed(),
            // Ends while its standard input is open and unread.
            "true" => stream::iter([started(45), exited(0)]).boxed(),
            "flood" => {
                let flood = stream::repeat_with(move || {
                    seen.flooded.fetch_add(64 * 1024, Ordering::SeqCst);
                    stdout(vec![b'x'; 64 * 1024])
                });
                stream::iter([started(46)]).chain(flood).boxed()
            }
            _ => {
                let detail = ErrorDetail::new(ErrorCode::CommandNotFound, "No such command");
                return Err(detail.with_errno("ENOENT").into());
            }
        };
        let output = output.map(move |item| {
            under_way.note(&item);
            item
        });
        Ok(Response::new(output.boxed()))
    }

    async fn signal(
        &self,
        request: Request<SignalRequest>,
    ) -> Result<Response<SignalResponse>, Status> {
        match request.into_inner().pid {
            44 => Ok(Response::new(SignalResponse {})),
            _ => Err(ErrorDetail::new(ErrorCode::NotFound, "It has ended").into()),
        }
    }

    async fn resize(
        &self,
        request: Request<ResizeRequest>,
    ) -> Result<Response<ResizeResponse>, Status> {
        match request.into_inner() {
            ResizeRequest { pid: 44, size: Some(TerminalSize { rows: 5, columns: 6 }) } => {
                Ok(Response::new(ResizeResponse {}))
            }
            _ => Err(ErrorDetail::new(ErrorCode::NotFound, "It has no terminal").into()),
        }
    }

    /// Process 44 never ends, 45 has, 46 ends in a way that no process can.
    async fn wait(&self, request: Request<WaitRequest>) -> Result<Response<WaitResponse>, Status> {
        let exit_code = match request.into_inner().pid {
            44 => std::future::pending().await,
            45 => 3,
            46 => 300,
            _ => return Err(ErrorDetail::new(ErrorCode::NotFound, "It has ended").into()),
        };
        let exited = ProcessExited { exit_code: Some(exit_code), ..ProcessExited::default() };
        Ok(Response::new(WaitResponse { exited: Some(exited) }))
    }
}

fn cat(
    requests: Streaming<RunRequest>,
    seen: Arc<Seen>,
) -> impl Stream<Item = Result<RunResponse, Status>> {
    stream::unfold(Some((requests, seen)), |state| async {
        let (mut requests, seen) = state?;
        match requests.message().await {
            Ok(Some(RunRequest { request: Some(In::Stdin(data)) })) => {
                Some((item(Out::Stdout(data)), Some((requests, seen))))
            }
            Ok(None | Some(RunRequest { request: Some(In::CloseStdin(_)) })) => {
                seen.closed_stdin.fetch_add(1, Ordering::SeqCst);
                Some((exited(0), None))
            }
            other => panic!("{other:?}"),
        }
    })
}

/// Counts a Run from its beginning to its end or its cancellation.
struct UnderWay {
    seen: Arc<Seen>,
    ended: std::sync::atomic::AtomicBool,
}

impl UnderWay {
    fn new(seen: Arc<Seen>) -> Self {
        seen.running.fetch_add(1, Ordering::SeqCst);
        Self { seen, ended: false.into() }
    }

    fn note(&self, item: &Result<RunResponse, Status>) {
        if matches!(item, Ok(RunResponse { response: Some(Out::Exited(_)) })) {
            self.ended.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.seen.running.fetch_sub(1, Ordering::SeqCst);
        if !self.ended.load(Ordering::SeqCst) {
            self.seen.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}
