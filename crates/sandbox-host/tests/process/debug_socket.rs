//! `--debug-socket` of the real program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;

use nix::sys::signal::{Signal, kill};
use protocol::v1;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use tokio::net::UnixStream;

use crate::calls::{channel, soon, until};
use crate::end::pid;
use crate::helper::{ended, spawn};
use crate::program;

async fn with_socket(path: &Path) -> (Child, UnixStream) {
    let (child, connection) = spawn(program(), |command| {
        command.arg("--debug-socket").arg(path);
    });
    until("there is a socket", || path.exists()).await;
    (child, connection)
}

#[tokio::test]
async fn socket_is_private_serves_and_goes_when_the_client_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("debug");
    let (child, connection) = with_socket(&path).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let debug = channel(UnixStream::connect(&path).await.unwrap()).await;
    let mut sandbox = SandboxServiceClient::new(debug);
    let status = soon(sandbox.get_status(v1::GetStatusRequest {})).await.unwrap().into_inner();
    assert_eq!(status.state(), v1::State::Idle);
    drop(connection);
    assert_eq!(ended(child).await.0.code(), Some(0));
    assert!(!path.exists());
}

#[tokio::test]
async fn socket_goes_with_every_signal_that_can_be_caught() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("debug");
        let (child, _connection) = with_socket(&path).await;
        kill(pid(&child), signal).unwrap();
        ended(child).await;
        assert!(!path.exists(), "{signal}");
    }
}

#[tokio::test]
async fn path_that_exists_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "mine").unwrap();
    let (child, _connection) = spawn(program(), |command| {
        command.arg("--debug-socket").arg(&path);
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--debug-socket") && said.contains("exists"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}
