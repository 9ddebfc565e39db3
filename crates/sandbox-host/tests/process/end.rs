//! How the program ends.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::v1;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tonic::transport::Channel;

use crate::calls::{channel, soon};
use crate::helper::{ended, shell, spawn};
use crate::program;

async fn serving(connection: UnixStream) -> SandboxServiceClient<Channel> {
    let mut sandbox = SandboxServiceClient::new(channel(connection).await);
    soon(sandbox.get_status(v1::GetStatusRequest {})).await.unwrap();
    sandbox
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

#[tokio::test]
async fn end_of_the_connection_ends_it_whether_it_has_served_or_not() {
    let (child, connection) = spawn(program(), |_| {});
    drop(connection);
    assert_eq!(ended(child).await.0.code(), Some(0));
    let (child, connection) = spawn(program(), |_| {});
    drop(serving(connection).await);
    assert_eq!(ended(child).await.0.code(), Some(0));
}

#[tokio::test]
async fn half_close_of_the_connection_ends_it() {
    let (child, mut connection) = spawn(program(), |_| {});
    tokio::io::AsyncWriteExt::shutdown(&mut connection).await.unwrap();
    assert_eq!(ended(child).await.0.code(), Some(0));
}

#[tokio::test]
async fn what_is_no_http2_ends_it() {
    let (child, mut connection) = spawn(program(), |_| {});
    tokio::io::AsyncWriteExt::write_all(&mut connection, &[b'x'; 4096]).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(connection.read_to_end(&mut answer)).await;
    assert_eq!(ended(child).await.0.code(), Some(0));
}

#[tokio::test]
async fn signals_end_it_and_its_status_names_them() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (child, connection) = spawn(program(), |_| {});
        let _sandbox = serving(connection).await;
        kill(pid(&child), signal).unwrap();
        let status = ended(child).await.0;
        assert_eq!(status.code(), Some(128 + signal as i32), "{status:?}");
        assert_eq!(status.signal(), None);
    }
}

#[tokio::test]
async fn death_of_its_parent_ends_it_though_the_connection_lives() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = shell("exec 3<&0 </dev/null; \"$0\" & echo $!; exec 3<&-; wait", program());
    command.stdin(std::os::fd::OwnedFd::from(theirs));
    let mut parent = command.spawn().unwrap();
    drop(command);
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.trim().parse::<i32>().is_ok(), "{line:?}");
    ours.set_nonblocking(true).unwrap();
    let mut connection = UnixStream::from_std(ours).unwrap();
    // It serves: the first that comes are its HTTP/2 settings.
    tokio::io::AsyncWriteExt::write_all(&mut connection, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    soon(connection.read_u8()).await.unwrap();
    parent.kill().unwrap();
    ended(parent).await;
    let mut rest = Vec::new();
    soon(connection.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn log_is_json_lines_at_the_chosen_level() {
    let (child, connection) = spawn(program(), |command| {
        command.env("LANEBOX_LOG", "info");
    });
    let mut sandbox = serving(connection).await;
    soon(sandbox.shutdown(v1::ShutdownRequest { deadline_ms: 0 })).await.unwrap();
    drop(sandbox);
    let (_, stderr) = ended(child).await;
    let mut log = String::new();
    stderr.unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("\"level\":\"INFO\"") && log.contains("the VM has ended"), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}

#[tokio::test]
async fn log_that_nobody_reads_holds_nothing_up() {
    let (child, connection) = spawn(program(), |command| {
        command.env("LANEBOX_LOG", "trace");
    });
    let mut sandbox = serving(connection).await;
    for _ in 0..2000 {
        soon(sandbox.get_status(v1::GetStatusRequest {})).await.unwrap();
    }
    drop(sandbox);
    assert_eq!(ended(child).await.0.code(), Some(0));
}
