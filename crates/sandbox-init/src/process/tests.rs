//! The service over a connection in memory, with real processes of this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use futures::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use protocol::ErrorCode;
use protocol::guest::v1::file_service_client::FileServiceClient;
use protocol::guest::v1::process_service_client::ProcessServiceClient;
use protocol::v1::run_request::Request::{CloseStdin, Start, Stdin};
use protocol::v1::run_response::Response;
use protocol::v1::{ProcessExited, RunRequest, RunResponse, SignalRequest, StartProcess};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::DEFAULT_PATH;
use super::children::reaper;
use super::service::Processes;
use super::terminal::Terminals;
use crate::channel::Written;
use crate::file::Files;
use crate::guest::Guest;
use crate::limits::MAX_STDIN_MESSAGE;
use crate::machine::{Environment, Lane, Machine};
use crate::server::serve;
use crate::sys::signal::{Target, send};

mod files;
mod refusals;
mod streams;
mod terminal;

type Client = ProcessServiceClient<Channel>;

struct Bench {
    machine: Arc<Machine>,
    client: Client,
    files: FileServiceClient<Channel>,
    folder: TempDir,
}

#[derive(Debug, Default)]
struct Outcome {
    pid: u32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exited: ProcessExited,
}

impl Outcome {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

/// A machine without a lane, and its client.
async fn bare() -> Bench {
    let machine = Arc::new(Machine::new(Written::default()));
    let reaped = Arc::clone(&machine);
    tokio::spawn(async move { reaper(&reaped.children).await });
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (guest, processes) =
        (Guest::new(Arc::clone(&machine)), Processes::new(Arc::clone(&machine)));
    let files = Files::new(Arc::clone(&machine));
    tokio::spawn(serve(theirs, guest, processes, files));
    let mut ours = Some(ours);
    let channel = Endpoint::from_static("http://guest.invalid")
        .initial_stream_window_size(1 << 16)
        .initial_connection_window_size(1 << 28)
        .connect_with_connector(tower::service_fn(move |_| {
            let stream = ours.take().ok_or_else(|| std::io::Error::other("one connection"));
            async move { stream.map(TokioIo::new) }
        }))
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let files = FileServiceClient::new(channel.clone());
    Bench { machine, client: Client::new(channel), files, folder }
}

/// A machine with a lane.
async fn bench() -> Bench {
    let bench = bare().await;
    let env = Environment::from([(c"PATH".into(), DEFAULT_PATH.into())]);
    bench.machine.begin_configure().unwrap();
    bench.machine.end_configure(Some(Lane {
        cwd: c"/tmp".into(),
        env,
        workload: None,
        terminals: Terminals::open().ok(),
    }));
    bench
}

impl Bench {
    async fn open(
        &self,
        requests: impl futures::Stream<Item = RunRequest> + Send + 'static,
    ) -> Result<Streaming<RunResponse>, Status> {
        self.client.clone().run(requests).await.map(tonic::Response::into_inner)
    }

    async fn run(&self, start: StartProcess) -> Result<Outcome, Status> {
        finish(self.open(stream::iter([first(start)])).await?).await
    }

    async fn shell(&self, script: &str) -> Outcome {
        self.run(sh(script)).await.unwrap()
    }

    /// The error code, errno and message that starting ends with.
    async fn refusal(&self, start: StartProcess) -> (ErrorCode, String, String) {
        refused(&self.run(start).await.unwrap_err())
    }

    /// A file for a test.
    fn file(&self, name: &str, content: &[u8], mode: u32) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn signal(&self, pid: u32, signal: &str) -> Result<(), Status> {
        let request = SignalRequest { pid, signal: signal.into() };
        self.client.clone().signal(request).await.map(drop)
    }
}

fn refused(status: &Status) -> (ErrorCode, String, String) {
    let detail = protocol::status::detail(status).unwrap_or_else(|| panic!("{status:?}"));
    (detail.code(), detail.errno, detail.message)
}

async fn finish(mut responses: Streaming<RunResponse>) -> Result<Outcome, Status> {
    let mut outcome = Outcome::default();
    while let Some(message) = responses.message().await? {
        match message.response.unwrap() {
            Response::Started(started) => outcome.pid = started.pid,
            Response::Stdout(bytes) => outcome.stdout.extend(bytes),
            Response::Stderr(bytes) => outcome.stderr.extend(bytes),
            Response::Exited(exited) => outcome.exited = exited,
        }
    }
    Ok(outcome)
}

async fn started(responses: &mut Streaming<RunResponse>) -> u32 {
    match responses.message().await.unwrap().unwrap().response.unwrap() {
        Response::Started(started) => started.pid,
        other => panic!("{other:?} before started"),
    }
}

/// Reads stdout until it holds `wanted`.
async fn until(responses: &mut Streaming<RunResponse>, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        match responses.message().await.unwrap().unwrap().response.unwrap() {
            Response::Stdout(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            other => panic!("{other:?} before {wanted:?}"),
        }
    }
    text
}

fn first(start: StartProcess) -> RunRequest {
    RunRequest { request: Some(Start(start)) }
}

fn command(name: &str, args: &[&str]) -> StartProcess {
    let args = args.iter().map(|argument| (*argument).to_owned()).collect();
    StartProcess { command: name.into(), args, ..StartProcess::default() }
}

fn sh(script: &str) -> StartProcess {
    command("sh", &["-c", script])
}

/// Waits until nobody has the process number any more.
async fn gone(pid: i32) {
    while send(Target::Process(nix::unistd::Pid::from_raw(pid)), 0).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_and_status_arrive_apart() {
    let outcome = bench().await.shell("echo out; echo err >&2; exit 3").await;
    assert_eq!((outcome.text(), &outcome.stderr[..]), ("out\n", &b"err\n"[..]));
    assert_eq!(outcome.exited, ProcessExited { exit_code: Some(3), ..ProcessExited::default() });
}

#[tokio::test]
async fn death_by_any_signal_is_told_by_number_and_name() {
    let bench = bench().await;
    for (script, number, name) in
        [("kill -KILL $$", 9, "SIGKILL"), ("kill -35 $$", 35, "SIGRTMIN+1")]
    {
        let exited = bench.shell(script).await.exited;
        assert_eq!((exited.exit_code, exited.signal), (None, number));
        assert_eq!(exited.signal_name, name);
    }
}

#[tokio::test]
async fn process_starts_in_a_clean_state() {
    let bench = bench().await;
    let text = bench
        .shell("cat /proc/self/status; pwd; umask; ulimit -n; echo $$; ls -l /proc/self/fd")
        .await;
    let text = text.text();
    for line in ["SigBlk:\t0000000000000000", "/tmp", "0022", "1024"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let ignored = text.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    let sigpipe = 1 << 12;
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & sigpipe, 0);
    // ls itself has the folder open as the fourth.
    let descriptors = text.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(descriptors, 4, "{text}");
    let ids = bench.shell("ps -o pid=,pgid=,sid= -p $$").await;
    let pid = ids.pid.to_string();
    assert!(ids.text().split_whitespace().all(|id| id == pid), "{} {pid}", ids.text());
}

#[tokio::test]
async fn environment_is_path_home_and_what_was_asked_for() {
    let bench = bench().await;
    let mut start = command("/usr/bin/env", &[]);
    start.env = [("A".to_owned(), "b c".to_owned())].into();
    let outcome = bench.run(start.clone()).await.unwrap();
    let mut lines: Vec<&str> = outcome.text().lines().collect();
    lines.sort_unstable();
    let path = format!("PATH={}", DEFAULT_PATH.to_str().unwrap());
    assert_eq!(lines, ["A=b c", "HOME=/root", &path]);
    start.env.insert("HOME".into(), "/elsewhere".into());
    let outcome = bench.run(start).await.unwrap();
    assert!(outcome.text().contains("HOME=/elsewhere\n"));
}

#[tokio::test]
async fn timeout_terminates_and_tells() {
    let bench = bench().await;
    let start = StartProcess { timeout_ms: 50, ..command("sleep", &["1000"]) };
    let exited = bench.run(start).await.unwrap().exited;
    assert!(exited.timed_out);
    assert_eq!((exited.exit_code, exited.signal_name.as_str()), (None, "SIGTERM"));
}

#[tokio::test]
async fn timeout_kills_what_ignores_sigterm() {
    let bench = bench().await;
    let start = StartProcess { timeout_ms: 50, ..sh("trap '' TERM; while :; do sleep 0.05; done") };
    let exited = bench.run(start).await.unwrap().exited;
    assert!(exited.timed_out);
    assert_eq!(exited.signal_name, "SIGKILL");
}

#[tokio::test]
async fn timeout_reaches_the_group_of_a_leader_that_exits_well() {
    let bench = bench().await;
    let script = "(trap '' TERM; while :; do sleep 0.05; done) & echo $!; trap 'exit 0' TERM; wait";
    let outcome = bench.run(StartProcess { timeout_ms: 200, ..sh(script) }).await.unwrap();
    assert!(outcome.exited.timed_out);
    assert_eq!(outcome.exited.exit_code, Some(0));
    gone(outcome.text().trim().parse().unwrap()).await;
}

#[tokio::test]
async fn dropped_call_terminates_the_group() {
    let bench = bench().await;
    let mut responses =
        bench.open(stream::iter([first(sh("sleep 1000 & echo $!.; wait"))])).await.unwrap();
    let leader = started(&mut responses).await;
    let child = until(&mut responses, ".").await;
    drop(responses);
    gone(leader.try_into().unwrap()).await;
    gone(child.trim().trim_end_matches('.').parse().unwrap()).await;
}

#[tokio::test]
async fn request_beyond_the_message_limit_is_refused() {
    let bench = bench().await;
    let status = bench.run(command("true", &["x".repeat(5 << 20).as_str()])).await.unwrap_err();
    assert_eq!(refused(&status).0, ErrorCode::InvalidArgument);
    assert_eq!(bench.shell("true").await.exited.exit_code, Some(0));
}

#[tokio::test]
async fn many_processes_run_side_by_side() {
    let bench = Arc::new(bench().await);
    let mut all = JoinSet::new();
    for index in 0..200 {
        let bench = Arc::clone(&bench);
        all.spawn(async move {
            let outcome =
                bench.shell(&format!("sleep 0.1; echo {index}; exit {}", index % 7)).await;
            assert_eq!(outcome.text(), format!("{index}\n"));
            assert_eq!(outcome.exited.exit_code, Some(index % 7));
        });
    }
    while let Some(result) = all.join_next().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn output_that_nobody_reads_stops_its_writer_and_nobody_else() {
    let bench = bench().await;
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(bench.open(stream::iter([first(command("yes", &[]))])).await.unwrap());
    }
    let outcome = bench.shell("head -c 2000000 /dev/zero").await;
    assert_eq!(outcome.stdout.len(), 2_000_000);
    for mut responses in unread {
        let pid = started(&mut responses).await;
        bench.signal(pid, "SIGTERM").await.unwrap();
        assert_eq!(finish(responses).await.unwrap().exited.signal_name, "SIGTERM");
    }
}

#[tokio::test]
async fn timeout_does_not_wait_for_a_reader() {
    let bench = bench().await;
    let start = StartProcess { timeout_ms: 100, ..command("yes", &[]) };
    let mut responses = bench.open(stream::iter([first(start)])).await.unwrap();
    let pid = started(&mut responses).await;
    gone(pid.try_into().unwrap()).await;
    assert!(finish(responses).await.unwrap().exited.timed_out);
}

#[tokio::test]
async fn signal_reaches_the_group_and_only_live_processes() {
    let bench = bench().await;
    let script = "sleep 1000 & echo $!.; wait; exit 9";
    let mut responses = bench.open(stream::iter([first(sh(script))])).await.unwrap();
    let pid = started(&mut responses).await;
    let child = until(&mut responses, ".").await;
    let wrong = bench.signal(pid, "TERM").await.unwrap_err();
    assert_eq!(refused(&wrong).0, ErrorCode::InvalidArgument);
    bench.signal(pid, "SIGTERM").await.unwrap();
    assert_eq!(finish(responses).await.unwrap().exited.signal_name, "SIGTERM");
    gone(child.trim().trim_end_matches('.').parse().unwrap()).await;
    for nobody in [pid, 0, 1, u32::MAX, std::process::id()] {
        let status = bench.signal(nobody, "SIGTERM").await.unwrap_err();
        assert_eq!(refused(&status).0, ErrorCode::NotFound, "{nobody}");
    }
}

#[tokio::test]
async fn nothing_runs_before_configure_or_after_shutdown() {
    let bench = bare().await;
    assert_eq!(bench.refusal(sh("true")).await.0, ErrorCode::InvalidArgument);
    bench.machine.begin_shutdown().unwrap();
    assert_eq!(bench.refusal(sh("true")).await.0, ErrorCode::SandboxClosed);
}

#[tokio::test]
async fn processes_past_the_limit_are_refused_and_fit_again_later() {
    let bench = bench().await;
    let all = crate::limits::MAX_RUNS.try_into().unwrap();
    let taken = bench.machine.runs.clone().try_acquire_many_owned(all);
    assert_eq!(bench.refusal(sh("true")).await.0, ErrorCode::LimitExceeded);
    drop(taken.unwrap());
    assert_eq!(bench.shell("true").await.exited.exit_code, Some(0));
}

#[tokio::test]
async fn nothing_is_left_of_calls_that_have_ended() {
    let bench = bench().await;
    bench.shell("exit 1").await;
    bench.refusal(command("/no/such", &[])).await;
    drop(bench.open(stream::iter([first(sh("sleep 1000"))])).await.unwrap());
    while bench.machine.runs.available_permits() != crate::limits::MAX_RUNS {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn input_on_its_way_to_processes_that_have_ended_is_never_too_much() {
    let bench = Arc::new(bench().await);
    let mut all = JoinSet::new();
    for _ in 0..20 {
        let bench = Arc::clone(&bench);
        all.spawn(async move {
            for _ in 0..60 {
                let start = StartProcess { stdin: true, ..command("true", &[]) };
                let piece = RunRequest { request: Some(Stdin(vec![0; 60_000].into())) };
                let pieces = stream::iter([first(start), piece.clone(), piece.clone(), piece]);
                let requests = pieces.chain(stream::pending());
                finish(bench.open(requests).await.unwrap()).await.unwrap();
            }
        });
    }
    while let Some(result) = all.join_next().await {
        result.unwrap();
    }
    assert_eq!(bench.shell("true").await.exited.exit_code, Some(0));
}

#[tokio::test]
async fn many_calls_dropped_at_once_do_not_end_the_connection() {
    const PING: u8 = 6;
    let machine = Arc::new(Machine::new(Written::default()));
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let guest = Guest::new(Arc::clone(&machine));
    tokio::spawn(serve(theirs, guest, Processes::new(Arc::clone(&machine)), Files::new(machine)));
    // RFC 9113: the preface, empty settings, then calls that are reset as they begin, and a ping.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    for stream in (1..400u32).step_by(2) {
        let id = stream.to_be_bytes();
        bytes.extend([&[0, 0, 3, 1, 4], &id[..], &[0x83, 0x86, 0x84]].concat());
        bytes.extend([&[0, 0, 4, 3, 0], &id[..], &[0, 0, 0, 8]].concat());
    }
    bytes.extend([0, 0, 8, PING, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    ours.write_all(&bytes).await.unwrap();
    loop {
        let mut head = [0; 9];
        ours.read_exact(&mut head).await.expect("the connection lives until the ping is answered");
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        ours.read_exact(&mut body).await.unwrap();
        if head[3] == PING {
            assert_eq!(body, [1, 2, 3, 4, 5, 6, 7, 8]);
            return;
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_http2_end_the_connection_with_an_error() {
    let machine = Arc::new(Machine::new(Written::default()));
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let guest = Guest::new(Arc::clone(&machine));
    let served = tokio::spawn(serve(
        theirs,
        guest,
        Processes::new(Arc::clone(&machine)),
        Files::new(machine),
    ));
    ours.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(served.await.unwrap().is_err());
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
}
