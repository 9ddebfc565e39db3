//! What the program asks for before it serves.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, getpgid};
use protocol::v1;
use protocol::v1::sandbox_service_client::SandboxServiceClient;

use crate::calls::{channel, soon};
use crate::helper::{command, ended, shell, spawn};
use crate::program;

const USAGE: Option<i32> = Some(2);

/// Runs a command that must fail at once, and returns what it said.
fn refusal(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), USAGE, "{said}");
    said
}

#[test]
fn absent_file_descriptor_3_is_refused() {
    let said = refusal(shell("exec \"$0\" 3<&-", program()));
    assert!(said.contains("File descriptor 3 is not open"), "{said}");
}

#[test]
fn file_descriptor_3_that_is_no_connected_stream_socket_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let unconnected =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let cases: [(OwnedFd, &str); 4] = [
        (File::open("/dev/null").unwrap().into(), "is not a socket"),
        (UnixDatagram::pair().unwrap().0.into(), "is not a Unix stream socket"),
        (listener.into(), "is not connected"),
        (unconnected, "is not connected"),
    ];
    for (third, expected) in cases {
        let said = refusal(command(program(), third));
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn malformed_log_filter_is_refused_and_named() {
    for filter in ["inof", "sandbox_host=loud"] {
        let (child, _connection) = spawn(program(), |command| {
            command.env("LANEBOX_LOG", filter);
        });
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), USAGE, "{said}");
        assert!(said.contains("LANEBOX_LOG") && said.contains(filter), "{said}");
    }
}

#[test]
fn unknown_arguments_are_refused_and_the_version_is_told_without_a_connection() {
    let run = |arg: &str| Command::new(program()).arg(arg).stdin(Stdio::null()).output().unwrap();
    for unknown in ["--socket", "boot", "--debug-socket"] {
        assert_eq!(run(unknown).status.code(), USAGE, "{unknown}");
    }
    let version = run("--version");
    assert_eq!(version.status.code(), Some(0));
    let expected = format!("sandbox-host {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), expected);
    let help = String::from_utf8(run("--help").stdout).unwrap();
    assert!(help.contains("--debug-socket") && help.contains("file descriptor 3"), "{help}");
}

#[tokio::test]
async fn it_serves_as_leader_of_a_group_of_its_own() {
    let (child, connection) = spawn(program(), |_| {});
    let mut sandbox = SandboxServiceClient::new(channel(connection).await);
    let probe = soon(sandbox.probe(v1::ProbeRequest {})).await.unwrap().into_inner();
    assert_eq!(probe.host_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(probe.engines.len(), 2, "{probe:?}");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    assert_eq!(getpgid(Some(pid)), Ok(pid));
    drop(sandbox);
    assert!(ended(child).await.0.success());
}

#[tokio::test]
async fn inherited_file_descriptors_are_closed() {
    let (mut read, write) = std::io::pipe().unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    // The pipe comes as standard output, and is moved out of the way.
    let mut command = shell("exec \"$0\" 3<&0 </dev/null 9>&1 >/dev/null", program());
    command.stdin(OwnedFd::from(theirs)).stdout(write);
    let child = command.spawn().unwrap();
    drop(command);
    ours.set_nonblocking(true).unwrap();
    let connection = tokio::net::UnixStream::from_std(ours).unwrap();
    let mut sandbox = SandboxServiceClient::new(channel(connection).await);
    soon(sandbox.get_status(v1::GetStatusRequest {})).await.unwrap();
    // It lives, and nobody has the pipe's other end any more.
    let end = tokio::task::spawn_blocking(move || read.read(&mut [0; 1]).unwrap());
    assert_eq!(soon(end).await.unwrap(), 0);
    drop(sandbox);
    ended(child).await;
}
