//! Processes with a terminal, and what `Resize`, `Wait`, limits and privileges do.

use protocol::v1::{ResizeRequest, ResourceLimit, TerminalSize, WaitRequest};
use tokio::sync::mpsc::Sender;

use super::*;

/// A process with a terminal.
struct Session {
    input: Sender<RunRequest>,
    responses: Streaming<RunResponse>,
    pid: u32,
}

impl Session {
    async fn open(bench: &Bench, start: StartProcess) -> Self {
        let size = TerminalSize { rows: 24, columns: 80 };
        let start = StartProcess { stdin: true, terminal: Some(size), ..start };
        let (input, receiver) = mpsc::channel(4);
        input.send(first(start)).await.unwrap();
        let mut responses = bench.open(ReceiverStream::new(receiver)).await.unwrap();
        let pid = started(&mut responses).await;
        Self { input, responses, pid }
    }

    async fn send(&self, text: &'static str) {
        self.input.send(RunRequest { request: Some(Stdin(text.into())) }).await.unwrap();
    }
}

#[tokio::test]
async fn terminal_is_controlling_and_has_its_size() {
    let bench = bench().await;
    let script =
        "tty; stty size; ps -o tty= -p $$; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo all";
    let session = Session::open(&bench, sh(script)).await;
    let outcome = finish(session.responses).await.unwrap();
    let lines: Vec<&str> = outcome.text().lines().collect();
    let tty = lines[0].strip_prefix("/dev/").unwrap();
    assert!(tty.starts_with("pts/"), "{lines:?}");
    assert_eq!(lines[1..], ["24 80", tty, "xterm-256color", "all"]);
    assert_eq!(outcome.exited.exit_code, Some(0));
}

#[tokio::test]
async fn everything_that_a_terminal_got_before_the_exit_arrives() {
    let bench = bench().await;
    let session = Session::open(&bench, sh("seq 20000; echo end")).await;
    let outcome = finish(session.responses).await.unwrap();
    assert!(outcome.text().ends_with("20000\r\nend\r\n"));
    assert_eq!(outcome.text().lines().count(), 20_001);
}

#[tokio::test]
async fn control_c_interrupts_the_foreground_and_control_d_ends_input() {
    let bench = bench().await;
    let script = "trap 'trap - INT; echo interrupted; cat; echo done; exit 0' INT; echo ready; \
                  while :; do sleep 0.05; done";
    let mut session = Session::open(&bench, sh(script)).await;
    until(&mut session.responses, "ready").await;
    session.send("\x03").await;
    until(&mut session.responses, "interrupted").await;
    session.send("hello\n").await;
    until(&mut session.responses, "hello\r\nhello").await;
    session.send("\x04").await;
    until(&mut session.responses, "done").await;
    assert_eq!(finish(session.responses).await.unwrap().exited.exit_code, Some(0));
}

#[tokio::test]
async fn new_size_is_seen_and_told() {
    let bench = bench().await;
    let script = "trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut session = Session::open(&bench, sh(script)).await;
    until(&mut session.responses, "ready").await;
    let resize = |pid, rows| {
        let size = Some(TerminalSize { rows, columns: 132 });
        let mut client = bench.client.clone();
        async move { client.resize(ResizeRequest { pid, size }).await }
    };
    let refusal = refused(&resize(session.pid, 70_000).await.unwrap_err());
    assert_eq!(refusal.0, ErrorCode::InvalidArgument);
    resize(session.pid, 43).await.unwrap();
    until(&mut session.responses, "43 132").await;
    let pid = session.pid;
    assert_eq!(finish(session.responses).await.unwrap().exited.exit_code, Some(4));
    let refusal = loop {
        match resize(pid, 43).await {
            // The call has ended for us a moment before it has for PID 1.
            Ok(_) => tokio::task::yield_now().await,
            Err(status) => break refused(&status),
        }
    };
    assert_eq!((refusal.0, refusal.1.as_str()), (ErrorCode::NotFound, "ESRCH"));
}

#[tokio::test]
async fn end_of_input_hangs_the_terminal_up() {
    let bench = bench().await;
    let script = "trap 'exit 9' HUP; echo ready; while :; do sleep 0.05; done";
    let mut session = Session::open(&bench, sh(script)).await;
    until(&mut session.responses, "ready").await;
    drop(session.input);
    assert_eq!(finish(session.responses).await.unwrap().exited.exit_code, Some(9));
}

#[tokio::test]
async fn dropped_call_hangs_up_a_shell_that_ignores_sigterm_and_its_jobs() {
    let bench = bench().await;
    let bash = command("bash", &["--norc", "-i"]);
    let mut session = Session::open(&bench, bash).await;
    session.send("sleep 1000 & echo job=$!.\n").await;
    let text = until(&mut session.responses, "\njob=").await;
    let mut rest = text.split("\njob=").nth(1).unwrap().to_owned();
    while !rest.contains('.') {
        rest.push_str(&until(&mut session.responses, ".").await);
    }
    let job: i32 = rest.split('.').next().unwrap().parse().unwrap();
    let shell = session.pid;
    drop(session);
    gone(shell.try_into().unwrap()).await;
    gone(job).await;
}

#[tokio::test]
async fn wait_tells_the_end_of_a_process_whose_output_nobody_reads() {
    let bench = bench().await;
    let mut responses = bench.open(stream::iter([first(sh("yes"))])).await.unwrap();
    let pid = started(&mut responses).await;
    until(&mut responses, "y").await;
    let mut client = bench.client.clone();
    let waiting = tokio::spawn(async move { client.wait(WaitRequest { pid }).await });
    // A later call on the same connection is answered: the wait has begun.
    bench.signal(pid, "SIGCONT").await.unwrap();
    bench.signal(pid, "SIGUSR1").await.unwrap();
    let exited = waiting.await.unwrap().unwrap().into_inner().exited.unwrap();
    assert_eq!((exited.exit_code, exited.signal_name.as_str()), (None, "SIGUSR1"));
    assert_eq!(finish(responses).await.unwrap().exited.signal_name, "SIGUSR1");
    let mut asked = bench.client.clone();
    while asked.wait(WaitRequest { pid }).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn resource_limits_and_privileges_are_set_for_the_process() {
    let bench = bench().await;
    let limit = |name: &str, soft, hard| ResourceLimit { name: name.into(), soft, hard };
    let start = StartProcess {
        limits: vec![limit("nofile", Some(17), Some(18)), limit("core", Some(0), None)],
        no_new_privileges: true,
        ..sh("ulimit -n; ulimit -Hn; ulimit -c; grep NoNewPrivs /proc/self/status")
    };
    assert_eq!(bench.run(start).await.unwrap().text(), "17\n18\n0\nNoNewPrivs:\t1\n");
    let wrong = StartProcess { limits: vec![limit("files", None, None)], ..sh("true") };
    assert_eq!(bench.refusal(wrong).await.0, ErrorCode::InvalidArgument);
}
