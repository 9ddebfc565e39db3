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
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Parser;
use http::{HeaderMap, HeaderName, HeaderValue};
use netstack::device::{Device, Tap};
use netstack::http::{Http, HttpRules, Limits, Options, Secrets, SetHeaders};
use netstack::names::Names;
use netstack::policy::{Allow, Rule, Rules, Services};
use netstack::tls::{Authority, Trust};
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
    /// `tcp`, `udp` or `http`, then `,to=ADDRESS[/LENGTH]` and `,ports=FIRST-LAST` as often as wanted
    #[arg(long = "allow", value_parser = rule)]
    rules: Vec<Rule>,
    /// What requests of `http` rules are given, as `NAME: VALUE`
    #[arg(long = "header", value_parser = header, requires = "trust")]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A file with certificates in PEM, by which the servers of `http` rules are verified
    #[arg(long)]
    trust: Option<PathBuf>,
    /// Say nothing about flows
    #[arg(long)]
    quiet: bool,
}

fn rule(text: &str) -> Result<Rule, String> {
    let mut parts = text.split(',');
    let mut rule = Rule::new(match parts.next() {
        Some("tcp") => Allow::Tcp,
        Some("udp") => Allow::Udp,
        Some("http") => Allow::Http,
        other => return Err(format!("{other:?} is none of \"tcp\", \"udp\" and \"http\"")),
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

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(": ").ok_or("there is no \": \"")?;
    let name = name.parse().map_err(|error| format!("{error}"))?;
    Ok((name, value.parse().map_err(|error| format!("{error}"))?))
}

/// Interception for the rules, where there is a certificate to verify servers by.
fn services(arguments: &Arguments) -> Result<Services, Box<dyn std::error::Error + Send + Sync>> {
    let Some(trust) = &arguments.trust else { return Ok(Services::default()) };
    let http = Http::new(Options {
        names: Arc::new(Names::new()),
        authority: Arc::new(Authority::new(SystemTime::now())?),
        trust: Arc::new(Trust::only(&[std::fs::read_to_string(trust)?])?),
        secrets: Arc::new(Secrets::default()),
        limits: Limits::default(),
        observer: netstack::http::Observer::default(),
    });
    let headers = arguments.headers.iter().cloned().collect::<HeaderMap>();
    let middleware = Arc::new(SetHeaders::new(headers));
    let rules = arguments.rules.iter().fold(HttpRules::new(http), |rules, rule| {
        rules.rule(rule.allow_private, Some(middleware.clone()))
    });
    Ok(Services { http: Some(Arc::new(rules)), ..Services::default() })
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
    let services = services(&arguments)?;
    let policy = Rules::new(arguments.rules, services, None);
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
