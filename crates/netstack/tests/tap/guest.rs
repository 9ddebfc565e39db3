//! A guest: a namespace with a TAP device, and a stack behind it.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use netstack::device::{Device, Tap};
use netstack::{Config, Decision, Event, Flow, Grants, Observer, Policy, Stack};
use nix::sched::{CloneFlags, unshare};
use tokio::runtime::Runtime;

use crate::weather::{self, Weather};

/// Long enough for any machine; never reached by a test that passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The guest's hardware address.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const MAC_TEXT: &str = "02:00:00:00:00:09";

type Task = Box<dyn FnOnce() + Send>;

/// A guest and its network.
pub(crate) struct Guest {
    tasks: Sender<Task>,
    pub(crate) events: Events,
    pub(crate) stack: Stack,
    pub(crate) runtime: Runtime,
}

/// What the stack has told.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().expect("no panic while it is held").clone()
    }

    /// Waits for an event that fits.
    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        let mut found = None;
        until(what, || {
            found = self.all().into_iter().find(|event| fits(event));
            found.is_some()
        });
        found.expect("it was found")
    }
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Accepts everything and counts the questions.
#[derive(Default)]
pub(crate) struct AcceptAll(pub(crate) AtomicUsize);

#[async_trait]
impl Policy for AcceptAll {
    async fn decide(&self, _flow: &Flow) -> Decision {
        self.0.fetch_add(1, Ordering::Relaxed);
        Decision::Accept(Grants::default())
    }
}

/// Accepts everything without being waited for.
struct AcceptAtOnce;

#[async_trait]
impl Policy for AcceptAtOnce {
    async fn decide(&self, flow: &Flow) -> Decision {
        panic!("asked about {flow:?}, which was settled");
    }

    fn settle(&self, _flow: &Flow) -> Option<Decision> {
        Some(Decision::Accept(Grants::default()))
    }
}

impl Guest {
    /// A guest whose flows are all accepted at once, or `None` where there can be none.
    pub(crate) fn at_once(test: &str) -> Option<Self> {
        Self::with(test, Config::default(), Arc::new(AcceptAtOnce))
    }

    /// A guest whose flows are all accepted, or `None` where there can be none.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::with(test, Config::default(), Arc::new(AcceptAll::default()))
    }

    pub(crate) fn with(test: &str, config: Config, policy: Arc<dyn Policy>) -> Option<Self> {
        let tap = || Tap::open("tap0").map(Device::tap).map_err(|error| error.to_string());
        Self::on(test, config, policy, tap)
    }

    /// A guest behind a bad cable.
    pub(crate) fn in_weather(
        test: &str,
        config: Config,
        policy: Arc<dyn Policy>,
        weather: Weather,
    ) -> Option<Self> {
        let cable = move || weather::plug("tap0", weather).map_err(|error| error.to_string());
        Self::on(test, config, policy, cable)
    }

    fn on(
        test: &str,
        config: Config,
        policy: Arc<dyn Policy>,
        open: impl FnOnce() -> Result<Device, String> + Send + 'static,
    ) -> Option<Self> {
        let (tasks, received) = channel::<Task>();
        let (opened, device) = channel();
        std::thread::spawn(move || live(open, &opened, &received));
        let device = match device.recv().expect("the guest says whether it lives") {
            Ok(device) => device,
            Err(reason) => {
                eprintln!("skipped: {test}: {reason}");
                return None;
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let events = Events::default();
        let log = events.clone();
        let observer = Observer::new(move |event| {
            log.0.lock().expect("no panic while it is held").push(event);
        });
        let mtu = config.mtu.to_string();
        let stack =
            Stack::start(config, device, policy, observer, runtime.handle()).expect("a stack");
        let guest = Self { tasks, events, stack, runtime };
        guest.run(move || {
            ip(&format!("link set tap0 address {MAC_TEXT} mtu {mtu} up"));
            ip("link set lo up");
            ip("address add 10.0.2.15/24 dev tap0");
            ip("address add fd00::15/64 dev tap0 nodad");
            ip("route add default via 10.0.2.1");
            ip("-6 route add default via fd00::1");
        });
        Some(guest)
    }

    /// Runs something in the guest's namespace. Threads that it starts are there too.
    pub(crate) fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let task = move || {
            // The caller waits.
            let _ = done.send(std::panic::catch_unwind(std::panic::AssertUnwindSafe(task)));
        };
        self.tasks.send(Box::new(task)).expect("the guest lives");
        match result.recv().expect("the guest lives") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Ends the network and checks that it ends.
    pub(crate) fn end(self) {
        let Self { stack, runtime, .. } = self;
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, stack.shutdown())
                .await
                .expect("it ends")
                .expect("it had not failed");
        });
    }
}

fn live(
    open: impl FnOnce() -> Result<Device, String>,
    opened: &Sender<Result<Device, String>>,
    tasks: &Receiver<Task>,
) {
    let device = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("no network namespace: {error}"))
        .and_then(|()| open())
        .and_then(|device| {
            let found = Command::new("ip").arg("-V").output();
            found.map(|_| device).map_err(|error| format!("no ip command: {error}"))
        });
    let alive = device.is_ok();
    // The other side waits.
    let _ = opened.send(device);
    if alive {
        tasks.iter().for_each(|task| task());
    }
}

pub(crate) fn ip(arguments: &str) {
    let output =
        Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is here");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Numbers that look random, the same for the same seed (xorshift).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A digest that notices any change, any loss and any reordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    hash: u64,
    length: u64,
}

impl Digest {
    pub(crate) fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, length: 0 }
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.length += bytes.len() as u64;
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digest = Self::new();
        digest.add(bytes);
        digest
    }
}

/// Resident memory of this process, in KiB.
pub(crate) fn resident() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
