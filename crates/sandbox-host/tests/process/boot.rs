//! One real boot: the program, an engine, the guest's kernel and init, an image. Skipped, with the
//! reason, where one of these is not there.

use std::fs;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use futures::stream;
use protocol::v1::process_service_client::ProcessServiceClient;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use protocol::v1::watch_response::Event;
use protocol::{ErrorCode, v1};
use tokio::sync::Mutex;
use tonic::transport::Channel;

use crate::calls::{Ran, assert_code, channel, collect, command, detail, first, soon, stdin};
use crate::helper::{ended, spawn};
use crate::machine::Machine;
use crate::program;

/// Emulated machines take a processor each: one at a time.
static ONE: Mutex<()> = Mutex::const_new(());

/// The files in the artifacts folder; `None`, said, when one is missing.
fn machine(test: &str) -> Option<Machine> {
    let folder = std::env::var_os("LANEBOX_ARTIFACTS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../artifacts")),
        PathBuf::from,
    );
    let machine = Machine {
        kernel: folder.join("linux-x64-gnu/vmlinux"),
        initramfs: folder.join("linux-x64-gnu/initramfs.cpio"),
        image: folder.join("image-busybox/rootfs.qcow2"),
    };
    for file in [&machine.kernel, &machine.initramfs, &machine.image] {
        if !file.is_file() {
            println!("skipped: {test}: there is no {}", file.display());
            return None;
        }
    }
    if !engine::probe::probe().iter().any(|found| found.code == engine::probe::FindingCode::Ok) {
        println!("skipped: {test}: no engine can run here");
        return None;
    }
    Some(machine)
}

async fn run(process: &ProcessServiceClient<Channel>, start: v1::StartProcess) -> Ran {
    let mut process = process.clone();
    let call = process.run(stream::iter([first(start)]));
    soon(collect(soon(call).await.unwrap().into_inner())).await.unwrap()
}

#[tokio::test]
async fn real_machine_boots_runs_commands_and_closes() {
    let Some(machine) = machine("real_machine_boots_runs_commands_and_closes") else { return };
    let _one = ONE.lock().await;
    let (child, connection) = spawn(program(), |command| {
        command.args(machine.grants());
    });
    let channel = channel(connection).await;
    let mut sandbox = SandboxServiceClient::new(channel.clone());
    let process = ProcessServiceClient::new(channel);
    let watch = soon(sandbox.watch(v1::WatchRequest {})).await.unwrap().into_inner();
    let booted = soon(sandbox.boot(machine.request())).await.unwrap().into_inner();
    assert_eq!(booted.isolation(), v1::IsolationKind::Emulated);
    assert!(!booted.kernel_release.is_empty() && !booted.detail.is_empty(), "{booted:?}");

    let echo = run(&process, command("echo", &["hello", "world"])).await;
    assert_eq!((echo.stdout.as_slice(), echo.exit_code), (&b"hello world\n"[..], Some(0)));
    let status = run(&process, command("sh", &["-c", "exit 7"])).await;
    assert_eq!(status.exit_code, Some(7));
    let mut cat = process.clone();
    let start = v1::StartProcess { stdin: true, ..command("cat", &[]) };
    let said = stream::iter([first(start), stdin("through "), stdin("and through")]);
    let call = soon(cat.run(said)).await.unwrap().into_inner();
    assert_eq!(soon(collect(call)).await.unwrap().stdout, b"through and through");
    let missing = process.clone().run(stream::iter([first(command("no-such", &[]))])).await;
    assert_code(&detail(missing), ErrorCode::CommandNotFound);

    let exited = soon(sandbox.shutdown(v1::ShutdownRequest { deadline_ms: 0 })).await.unwrap();
    assert_eq!(exited.into_inner().exited.unwrap().reason(), v1::ExitReason::Closed);
    let events: Vec<_> = soon(watch.map(|event| event.unwrap().event.unwrap()).collect()).await;
    assert!(matches!(events.last(), Some(Event::Exited(_))), "{events:?}");
    drop((sandbox, process, cat));
    assert_eq!(ended(child).await.0.code(), Some(0));
}

#[tokio::test]
async fn real_machine_dies_with_its_client() {
    let Some(machine) = machine("real_machine_dies_with_its_client") else { return };
    let _one = ONE.lock().await;
    let (child, connection) = spawn(program(), |command| {
        command.args(machine.grants());
    });
    let channel = channel(connection).await;
    let mut sandbox = SandboxServiceClient::new(channel);
    soon(sandbox.boot(machine.request())).await.unwrap();
    let engine = children(child.id());
    assert!(!engine.is_empty(), "the engine is a child");
    drop(sandbox);
    assert_eq!(ended(child).await.0.code(), Some(0));
    for process in engine {
        assert!(!Path::new("/proc").join(&process).exists(), "{process} is still there");
    }
}

/// The processes that any thread of a process has started.
fn children(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("children")));
    lists
        .flat_map(|list| list.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
