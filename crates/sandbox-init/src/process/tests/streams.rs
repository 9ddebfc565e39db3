//! What goes into a process and what comes out of it.

use super::*;

#[tokio::test]
async fn without_stdin_the_process_reads_end_of_file() {
    assert_eq!(bench().await.run(command("cat", &[])).await.unwrap().exited.exit_code, Some(0));
}

#[tokio::test]
async fn input_larger_than_every_buffer_comes_back_whole() {
    let bench = bench().await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    let start = StartProcess { stdin: true, ..command("cat", &[]) };
    let pieces: Vec<RunRequest> = sent
        .chunks(500_000)
        .map(|piece| RunRequest { request: Some(Stdin(piece.to_vec().into())) })
        .collect();
    let requests = stream::iter(std::iter::once(first(start)).chain(pieces));
    let outcome = finish(bench.open(requests).await.unwrap()).await.unwrap();
    assert_eq!(outcome.stdout.len(), sent.len());
    assert!(outcome.stdout == sent);
    assert_eq!(outcome.exited.exit_code, Some(0));
}

#[tokio::test]
async fn close_stdin_ends_input_while_the_call_stays_open() {
    let bench = bench().await;
    let (requests, receiver) = mpsc::channel(4);
    requests.send(first(StartProcess { stdin: true, ..command("cat", &[]) })).await.unwrap();
    let mut responses = bench.open(ReceiverStream::new(receiver)).await.unwrap();
    started(&mut responses).await;
    requests.send(RunRequest { request: Some(Stdin("x".into())) }).await.unwrap();
    until(&mut responses, "x").await;
    let close = CloseStdin(protocol::v1::CloseStdin {});
    requests.send(RunRequest { request: Some(close) }).await.unwrap();
    assert_eq!(finish(responses).await.unwrap().exited.exit_code, Some(0));
}

#[tokio::test]
async fn input_that_nobody_reads_any_more_is_no_error() {
    let bench = bench().await;
    let start = StartProcess { stdin: true, ..sh("exec <&-; sleep 0.2; echo done") };
    let piece = RunRequest { request: Some(Stdin(vec![0; 500_000].into())) };
    let requests = stream::iter([first(start), piece.clone(), piece.clone(), piece]);
    let outcome = finish(bench.open(requests).await.unwrap()).await.unwrap();
    assert_eq!((outcome.text(), outcome.exited.exit_code), ("done\n", Some(0)));
}

#[tokio::test]
async fn malformed_requests_end_the_call_and_the_process() {
    let bench = bench().await;
    let wrong = [
        RunRequest { request: None },
        first(sh("true")),
        RunRequest { request: Some(Stdin("not announced".into())) },
    ];
    let large = RunRequest { request: Some(Stdin(vec![0; MAX_STDIN_MESSAGE + 1].into())) };
    let cases = wrong.into_iter().map(|wrong| (false, wrong)).chain([(true, large)]);
    for (stdin, wrong) in cases {
        let start = StartProcess { stdin, ..sh("sleep 1000") };
        let requests = stream::iter([first(start), wrong]).chain(stream::pending());
        let mut responses = bench.open(requests).await.unwrap();
        let pid = started(&mut responses).await;
        let status = responses.message().await.unwrap_err();
        assert_eq!(refused(&status).0, ErrorCode::InvalidArgument);
        gone(pid.try_into().unwrap()).await;
    }
}

#[tokio::test]
async fn output_past_its_limit_is_cut_and_told() {
    let bench = bench().await;
    let script = "head -c 3000000 /dev/zero; head -c 1000 /dev/zero >&2";
    let start = StartProcess { max_output_bytes: 1000, ..sh(script) };
    let outcome = bench.run(start).await.unwrap();
    assert_eq!((outcome.stdout.len(), outcome.stderr.len()), (1000, 1000));
    assert!(outcome.exited.stdout_truncated && !outcome.exited.stderr_truncated);
    assert_eq!(outcome.exited.exit_code, Some(0));
}

#[tokio::test]
async fn everything_written_before_the_exit_arrives() {
    let outcome = bench().await.shell("head -c 5000000 /dev/zero; printf end").await;
    assert_eq!(outcome.stdout.len(), 5_000_003);
    assert!(outcome.stdout.ends_with(b"end"));
}

#[tokio::test]
async fn background_child_that_keeps_the_pipe_does_not_hold_the_call() {
    let bench = bench().await;
    let outcome = bench.shell("sleep 1000 & echo $!").await;
    assert_eq!(outcome.exited.exit_code, Some(0));
    let sleeper = outcome.text().trim().parse().unwrap();
    send(Target::Process(nix::unistd::Pid::from_raw(sleeper)), 9).unwrap();
}

#[tokio::test]
async fn background_child_that_goes_on_writing_does_not_hold_the_call() {
    let bench = bench().await;
    let outcome = bench.shell("yes & sleep 0.05; exit 4").await;
    assert_eq!(outcome.exited.exit_code, Some(4));
    // The pipe is closed with the call: `yes` ends by SIGPIPE.
}
