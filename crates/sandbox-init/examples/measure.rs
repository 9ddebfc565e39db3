//! Boots a guest in QEMU and prints how long the boot and an `exec("true")` take, and how fast
//! output and input flow. For people; asserts nothing. See `tests/support` for what it needs.
#![allow(clippy::print_stdout, reason = "prints its findings")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use protocol::v1::{RunRequest, StartProcess, run_request};
use support::{Vm, request, sh};

const RUNS: usize = 500;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let started = Instant::now();
    let mut vm = Vm::start(1, false).await;
    vm.configure(request(true)).await.expect("the guest boots");
    println!("QEMU start to configured: {:?}", started.elapsed());
    println!(
        "{}",
        vm.shell(
            "dmesg | grep -e 'Run /init' -e EXT4-fs | cut -c1-60; cat /proc/uptime; date +%s.%N"
        )
        .await
    );

    for (name, command) in [("true", "true"), ("/bin/busybox true", "/bin/true")] {
        let mut times = Vec::new();
        let before = busy(&vm).await;
        for _ in 0..RUNS {
            let started = Instant::now();
            let start = StartProcess { command: command.into(), ..StartProcess::default() };
            vm.run(start).await.expect("it runs");
            times.push(started.elapsed());
        }
        let busy = busy(&vm).await - before;
        print(name, times, busy / RUNS as f64);
    }
    let inside = "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done";
    let before = busy(&vm).await;
    let started = Instant::now();
    vm.shell(inside).await;
    let elapsed = started.elapsed() / 500;
    let busy = (busy(&vm).await - before) / 500.0;
    println!("fork+exec by the guest's shell: {elapsed:?} each, guest busy {:.2} ms", busy * 1e3);

    let bytes = 50_000_000;
    let started = Instant::now();
    let outcome = vm.run(sh("dd if=/dev/zero bs=50k count=1000")).await.expect("it runs");
    println!(
        "stdout: {:.0} MB/s in {} messages",
        bytes as f64 / started.elapsed().as_secs_f64() / 1e6,
        outcome.messages
    );
    let started = Instant::now();
    let start = StartProcess { stdin: true, ..sh("cat >/dev/null") };
    let pieces = (0..200).map(|_| run_request::Request::Stdin(vec![0; 250_000].into()));
    let requests = std::iter::once(run_request::Request::Start(start)).chain(pieces);
    let requests = stream::iter(requests.map(|request| RunRequest { request: Some(request) }));
    let mut responses = vm.processes.clone().run(requests).await.expect("it runs").into_inner();
    while responses.next().await.is_some() {}
    println!("stdin: {:.0} MB/s", bytes as f64 / started.elapsed().as_secs_f64() / 1e6);

    let started = Instant::now();
    vm.shutdown().await;
    println!("shutdown to the end of QEMU: {:?}", started.elapsed());
}

/// Seconds that the guest's processor has worked.
async fn busy(vm: &Vm) -> f64 {
    let text = vm.shell("cat /proc/uptime").await;
    let mut numbers =
        text.split_whitespace().map(|number| number.parse::<f64>().expect("a number"));
    numbers.next().unwrap_or_default() - numbers.next().unwrap_or_default()
}

fn print(name: &str, mut times: Vec<Duration>, busy: f64) {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100];
    let (p10, p50, p99) = (at(10), at(50), at(99));
    println!("exec {name}: p10 {p10:?} p50 {p50:?} p99 {p99:?}, guest busy {:.2} ms", busy * 1e3);
}
