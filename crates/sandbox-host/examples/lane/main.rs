//! Boots one lane by hand and looks at it: a client in Rust, for trying and for measuring.
//!
//! ```text
//! cargo run --release -p sandbox-host --example lane -- --kernel K --initramfs I --image M \
//!     [--host PROGRAM] [--repeat N] [--parallel N] [--bind SRC:DST[:ro]] [--tree DST] \
//!     [--http PORT] [COMMAND [ARG…]]
//! ```
//! `--bind` mounts a directory of the host, `--tree` one in this program's memory (see `tree`).
//! `--http` gives a network in which `host.lanebox.internal` is to be had at that port of the loopback,
//! over HTTP, with the header `x-injected: by-the-host`, and nothing else.
//! Prints how long the boot, its steps, the command and the shutdown took, and the memory of the
//! helper before and after `--repeat` runs in a row and `--parallel` at once.
#![allow(clippy::unwrap_used, reason = "what it shares with the tests may panic")]

#[path = "../../tests/support/calls.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod calls;
#[path = "../../tests/support/helper.rs"]
mod helper;
#[path = "../../tests/support/machine.rs"]
mod machine;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use futures::stream;
use protocol::v1;
use protocol::v1::process_service_client::ProcessServiceClient;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use protocol::v1::watch_response::Event;
use tonic::Status;
use tonic::transport::Channel;

use calls::{Ran, channel, collect, command, first};
use machine::Machine;

#[derive(Debug, Parser)]
struct Args {
    /// The helper; beside this example's folder when absent.
    #[arg(long)]
    host: Option<PathBuf>,
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initramfs: PathBuf,
    #[arg(long)]
    image: PathBuf,
    /// Runs in a row.
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Runs at once, after those.
    #[arg(long, default_value_t = 0)]
    parallel: u32,
    /// Directories of the host to mount.
    #[arg(long)]
    bind: Vec<String>,
    /// Where to mount a tree in this program's memory.
    #[arg(long)]
    tree: Option<String>,
    /// Port of the host's loopback that the guest may speak HTTP with.
    #[arg(long)]
    http: Option<u16>,
    /// Seconds to wait before the shutdown.
    #[arg(long, default_value_t = 0)]
    linger: u64,
    #[arg(trailing_var_arg = true, default_values_t = ["uname".to_owned(), "-a".to_owned()])]
    command: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let beside = std::env::current_exe()?;
    let beside = beside.parent().and_then(Path::parent).ok_or("no folder")?.join("sandbox-host");
    let host = args.host.clone().unwrap_or(beside);
    let (child, connection) = helper::spawn(&host, |command| {
        command.stderr(std::process::Stdio::inherit());
    });
    let channel = channel(connection).await;
    let mut sandbox = SandboxServiceClient::new(channel.clone());
    let process = ProcessServiceClient::new(channel.clone());
    let mut mounts: Vec<v1::Mount> = args.bind.iter().map(|bind| bound(bind)).collect();
    if let Some(target) = &args.tree {
        tree::serve(channel.clone()).await.inspect_err(show)?;
        mounts.push(tree::mount(target));
    }
    drop(channel);
    let Args { kernel, initramfs, image, http, .. } = args;
    let mut request = Machine { kernel, initramfs, image }.request();
    request.mounts = mounts;
    request.network = http.map(network);
    memory(child.id(), "before boot");

    let begun = Instant::now();
    let mut events = sandbox.watch(v1::WatchRequest {}).await?.into_inner();
    tokio::spawn(async move {
        while let Ok(Some(event)) = events.message().await {
            match event.event {
                Some(Event::Console(console)) => {
                    eprint!("{}", String::from_utf8_lossy(&console.data));
                }
                Some(event) => eprintln!("{:8.1} ms {event:?}", millis(begun)),
                None => {}
            }
        }
    });
    let booted = sandbox.boot(request).await.inspect_err(show)?.into_inner();
    eprintln!("{:8.1} ms booted: {booted:?}", millis(begun));
    memory(child.id(), "booted");

    let argv: Vec<&str> = args.command.iter().map(String::as_str).collect();
    for round in 0..args.repeat {
        let begun = Instant::now();
        let ran = run(&process, &argv).await.inspect_err(show)?;
        if round == 0 {
            eprintln!("{}", String::from_utf8_lossy(&ran.stdout));
        }
        if round < 3 || round + 1 == args.repeat {
            eprintln!("{:8.1} ms run {}: {:?}", millis(begun), round + 1, ran.exit_code);
        }
    }
    memory(child.id(), "after runs in a row");
    let begun = Instant::now();
    let all = (0..args.parallel).map(|_| run(&process, &argv));
    for ran in futures::future::join_all(all).await {
        ran.inspect_err(show)?;
    }
    eprintln!("{:8.1} ms {} at once", millis(begun), args.parallel);
    memory(child.id(), "after runs at once");
    tokio::time::sleep(std::time::Duration::from_secs(args.linger)).await;
    memory(child.id(), "after waiting");

    let begun = Instant::now();
    let exited = sandbox.shutdown(v1::ShutdownRequest { deadline_ms: 0 }).await?.into_inner();
    eprintln!("{:8.1} ms shut down: {:?}", millis(begun), exited.exited.map(|end| end.message));
    drop((sandbox, process));
    eprintln!("{:?}", helper::ended(child).await.0);
    Ok(())
}

/// `SRC:DST`, or `SRC:DST:ro`.
fn bound(bind: &str) -> v1::Mount {
    let mut parts = bind.split(':');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (source, target, read_only) = (next(), next(), next() == "ro");
    let bind = v1::BindMount { source, ..v1::BindMount::default() };
    let source = Some(v1::mount::Source::Bind(bind));
    v1::Mount { target, read_only, source, ..v1::Mount::default() }
}

/// HTTP with this port of the host's loopback, and names.
fn network(port: u16) -> v1::Network {
    let dns =
        v1::NetworkRule { allow: v1::AllowedTraffic::Dns.into(), ..v1::NetworkRule::default() };
    let value = "by-the-host".into();
    let http = v1::NetworkRule {
        allow: v1::AllowedTraffic::Http.into(),
        host: "host.lanebox.internal".to_owned(),
        ports: vec![v1::PortRange { first: port.into(), last: port.into() }],
        headers: vec![v1::HttpHeader { name: "x-injected".to_owned(), value }],
        ..v1::NetworkRule::default()
    };
    let policy = v1::NetworkPolicy { rules: vec![dns, http], ..v1::NetworkPolicy::default() };
    v1::Network { policy: Some(policy), secrets: Vec::new() }
}

async fn run(process: &ProcessServiceClient<Channel>, argv: &[&str]) -> Result<Ran, Status> {
    let start = command(argv[0], &argv[1..]);
    collect(process.clone().run(stream::iter([first(start)])).await?.into_inner()).await
}

fn show(status: &Status) {
    eprintln!("{:#?}", protocol::status::detail(status));
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

fn memory(pid: u32, when: &str) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let Ok(rollup) = read("smaps_rollup") else { return };
    let lines = rollup.lines().filter(|line| {
        ["Rss:", "Pss:", "Pss_Anon:", "Pss_File:", "Pss_Shmem:"]
            .iter()
            .any(|key| line.starts_with(key))
    });
    let fields: Vec<_> =
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let count = |folder: &str| {
        std::fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count)
    };
    eprintln!(
        "memory {when}: {}; {} threads, {} fds",
        fields.join(", "),
        count("task"),
        count("fd")
    );
}
