//! The keeper with shell scripts in the place of QEMU. Their standard output is the QMP socket.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use super::*;
use crate::sys::child;

/// What a well-behaved program says until it is ready.
const READY: &str = r#"
echo '{"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 2}}}}'
echo '{"return": {}, "id": 0}'
echo '{"return": {}, "id": 1}'
"#;

type Ready = oneshot::Receiver<Result<Version, StartError>>;

fn keep(script: &str) -> (Keeper, Ready) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(OwnedFd::from(theirs));
    command.stderr(Stdio::piped());
    child::confine(&mut command, Vec::new());
    Keeper::start(command, ours).unwrap()
}

/// Everything here ends by itself or by this.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("in time")
}

#[tokio::test]
async fn a_program_that_greets_and_obeys_is_ready() {
    let (keeper, ready) = keep(&format!("{READY} exec sleep 1000"));
    let version = in_time(ready).await.unwrap().unwrap();
    assert_eq!(version, Version { major: 9, minor: 1, micro: 2 });
    assert!(keeper.process_id().is_some());
}

#[tokio::test]
async fn a_program_that_ends_leaves_its_status_and_last_words() {
    let (mut keeper, ready) = keep("echo 'qemu: no such option' >&2; exit 7");
    assert!(in_time(ready).await.is_err(), "it never became ready");
    let exit = in_time(keeper.wait()).await;
    assert_eq!((exit.code, exit.signal, exit.reason), (Some(7), None, ExitReason::Failed));
    assert_eq!(exit.last_words, "qemu: no such option");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let command = Command::new("/nonexistent/qemu");
    let (mut keeper, ready) = Keeper::start(command, ours).unwrap();
    let error = in_time(ready).await.unwrap().unwrap_err();
    assert!(matches!(error, StartError::Spawn { .. }), "{error:?}");
    assert_eq!(in_time(keeper.wait()).await.reason, ExitReason::Failed);
}

#[tokio::test]
async fn a_program_that_talks_nonsense_is_an_error_and_dies_when_dropped() {
    for script in ["echo nonsense; exec sleep 1000", "yes | tr -d '\\n'"] {
        let (keeper, ready) = keep(script);
        let error = in_time(ready).await.unwrap().unwrap_err();
        assert!(matches!(error, StartError::Control(ControlError::Protocol(_))), "{error:?}");
        let pid = keeper.process_id().unwrap();
        drop(keeper);
        assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap());
    }
}

#[tokio::test]
async fn a_program_that_refuses_to_let_the_guest_go_is_an_error() {
    let refusal = READY.replace(
        "\"return\": {}, \"id\": 1",
        "\"error\": {\"class\": \"GenericError\", \"desc\": \"not today\"}, \"id\": 1",
    );
    let (_keeper, ready) = keep(&format!("{refusal} exec sleep 1000"));
    let error = in_time(ready).await.unwrap().unwrap_err();
    let StartError::Control(ControlError::Refused(why)) = error else { panic!("{error:?}") };
    assert_eq!(why, "not today");
}

#[tokio::test]
async fn a_flood_on_standard_error_is_cut_and_holds_nothing_up() {
    let (mut keeper, ready) = keep(&format!("{READY} yes | head -c 5000000 >&2; echo last >&2"));
    in_time(ready).await.unwrap().unwrap();
    let words = in_time(keeper.wait()).await.last_words;
    assert!(words.len() < 9_000 && words.ends_with("last"), "{} bytes", words.len());
}

#[tokio::test]
async fn a_closed_control_channel_is_told_and_leaves_the_process_alone() {
    let (mut keeper, ready) = keep(&format!("{READY} exec >&2; sleep 1000"));
    in_time(ready).await.unwrap().unwrap();
    let answer = in_time(keeper.execute("stop")).await;
    assert!(matches!(answer, Err(ControlError::Gone)), "{answer:?}");
    assert!(tokio::time::timeout(Duration::from_millis(50), keeper.wait()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_command_without_an_answer_ends_by_its_deadline() {
    let (keeper, ready) = keep(&format!("{READY} exec sleep 1000"));
    // Real time: the paused clock would run ahead of the shell.
    let begun = Instant::now();
    let mut ready = ready;
    while ready.try_recv().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = keeper.execute("stop").await;
    assert!(matches!(answer, Err(ControlError::Deadline(_))), "{answer:?}");
}

#[tokio::test]
async fn a_shutdown_told_in_the_last_breath_is_heard() {
    let event = r#"echo '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}'"#;
    let (mut keeper, ready) = keep(&format!("{READY} {event}"));
    in_time(ready).await.unwrap().unwrap();
    let exit = in_time(keeper.wait()).await;
    assert_eq!((exit.code, exit.reason), (Some(0), ExitReason::GuestPanic));
}

#[test]
fn killing_before_the_process_exists_kills_it_when_it_does() {
    for _ in 0..20 {
        let (keeper, _ready) = keep("exec sleep 1000");
        drop(keeper);
    }
    let threads = std::fs::read_dir("/proc/self/task").unwrap().filter(|task| {
        let name = task.as_ref().unwrap().path().join("comm");
        std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("engine-keeper"))
    });
    // Other tests have keepers of their own, but not twenty.
    assert!(threads.count() < 15);
}
