//! Puts a TAP device with a network behind it into a network namespace, for tests and benchmarks:
//!
//! ```text
//! ip netns add guest
//! netstack-tap --netns guest --allow tcp --allow udp,to=10.0.2.2 &
//! ip netns exec guest ip address add 10.0.2.15/24 dev tap0
//! ```
//!
//! Prints `ready` when the device is there, and events after, one a line. Ends by SIGINT or SIGTERM.

use std::fs::File;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use netstack::device::{Device, Tap};
use netstack::policy::{Allow, Rule, Rules, Services};
use netstack::{Config, Observer, Stack};
use nix::sched::{CloneFlags, setns};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
struct Arguments {
    /// Name of a namespace in /run/netns, or path of one; the current one if absent
    #[arg(long)]
    netns: Option<String>,
    /// Name of the device
    #[arg(long, default_value = "tap0")]
    tap: String,
    /// The largest packet of the link
    #[arg(long, default_value_t = 65_520)]
    mtu: u16,
    /// `tcp` or `udp`, then `,to=ADDRESS[/LENGTH]` and `,ports=FIRST-LAST` as often as wanted
    #[arg(long = "allow", value_parser = rule)]
    rules: Vec<Rule>,
    /// Say nothing about flows
    #[arg(long)]
    quiet: bool,
}

fn rule(text: &str) -> Result<Rule, String> {
    let mut parts = text.split(',');
    let mut rule = Rule::new(match parts.next() {
        Some("tcp") => Allow::Tcp,
        Some("udp") => Allow::Udp,
        other => return Err(format!("{other:?} is neither \"tcp\" nor \"udp\"")),
    });
    for part in parts {
        match part.split_once('=') {
            Some(("to", block)) => {
                rule.to.push(block.parse().map_err(|error| format!("{error}"))?);
            }
            Some(("ports", range)) => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let port = |text: &str| text.parse::<u16>().map_err(|error| error.to_string());
                rule.ports.push(port(first)?..=port(last)?);
            }
            _ => return Err(format!("\"{part}\" is neither to=… nor ports=…")),
        }
    }
    Ok(rule)
}

/// Opens the device on a thread that is in the namespace; the device stays there.
fn open(arguments: &Arguments) -> Result<Tap, Box<dyn std::error::Error + Send + Sync>> {
    let (netns, name) = (arguments.netns.clone(), arguments.tap.clone());
    let opened = thread::spawn(move || {
        if let Some(netns) = netns {
            let path = if netns.contains('/') { netns } else { format!("/run/netns/{netns}") };
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
        }
        Ok(Tap::open(&name)?)
    });
    opened.join().map_err(|_| "the thread panicked")?
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments = Arguments::parse();
    let tap = open(&arguments)?;
    let policy = Rules::new(arguments.rules, Services::default(), None);
    let observer = match arguments.quiet {
        true => Observer::default(),
        false => Observer::new(|event| eprintln!("{event:?}")),
    };
    let config = Config { mtu: arguments.mtu, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    let mut stack = Stack::start(config, Device::tap(tap), Arc::new(policy), observer, &runtime)?;
    eprintln!("ready");
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = stack.ended() => return Ok(result?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("{:?}", stack.stats());
    tokio::time::timeout(Duration::from_secs(5), stack.shutdown()).await??;
    Ok(())
}
