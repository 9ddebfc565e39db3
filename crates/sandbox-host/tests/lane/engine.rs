//! An engine whose machines are socket pairs with a played guest at the other end.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::probe::{EngineKind, Finding, FindingCode, IsolationKind};
use engine::{Exit, ExitReason, NetworkSpec, StartError, Usage, VmSpec};
use nix::sys::socket::{Shutdown, shutdown};
use sandbox_host::lane::{Engine, Machine, Pending};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use vfs::fuse::Serve;

/// What plays the guest: it gets its end of the control port and the machine it runs in.
pub(crate) type Player = Box<dyn FnOnce(UnixStream, Remote) -> Pending<'static, ()> + Send>;

/// The machine, as its guest and the test see it.
#[derive(Clone)]
pub(crate) struct Remote {
    exit: watch::Sender<Option<Exit>>,
    console: Arc<tokio::sync::Mutex<Option<UnixStream>>>,
    control: Arc<OwnedFd>,
}

impl Remote {
    /// Ends the machine.
    pub(crate) fn exit(&self, reason: ExitReason, code: Option<i32>, signal: Option<i32>) {
        let exit = Exit { code, signal, reason, last_words: String::new() };
        self.exit.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert(exit);
            first
        });
    }

    /// The guest resets itself.
    pub(crate) fn reset(&self) {
        self.exit(ExitReason::GuestReset, Some(0), None);
    }

    /// Closes the guest's end of the control port, whoever holds it.
    pub(crate) fn hang_up(&self) {
        let _ = shutdown(self.control.as_raw_fd(), Shutdown::Both);
    }

    /// Prints on the console.
    pub(crate) async fn print(&self, text: &str) {
        if let Some(console) = self.console.lock().await.as_mut() {
            console.write_all(text.as_bytes()).await.unwrap();
        }
    }
}

/// The engine. Starts one machine; counts those that live.
pub(crate) struct FakeEngine {
    player: Mutex<Option<Player>>,
    findings: Vec<Finding>,
    remote: watch::Sender<Option<Remote>>,
    alive: Arc<AtomicUsize>,
    served: Mutex<Vec<Arc<dyn Serve>>>,
    network: Mutex<Option<NetworkSpec>>,
}

impl FakeEngine {
    pub(crate) fn new(player: Player) -> Arc<Self> {
        let finding = Finding {
            engine: EngineKind::Qemu,
            isolation: IsolationKind::Emulated,
            code: FindingCode::Ok,
            detail: "A played engine".to_owned(),
            remedy: String::new(),
        };
        Arc::new(Self {
            player: Mutex::new(Some(player)),
            findings: vec![finding],
            remote: watch::Sender::new(None),
            served: Mutex::default(),
            network: Mutex::default(),
            alive: Arc::default(),
        })
    }

    /// Machines that have not been dropped.
    pub(crate) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// What answers the file requests of the machine's mount.
    pub(crate) fn served(&self, mount: usize) -> Arc<dyn Serve> {
        self.served.lock().unwrap()[mount].clone()
    }

    /// The machine's network device, if it has one.
    pub(crate) fn network(&self) -> Option<NetworkSpec> {
        self.network.lock().unwrap().take()
    }

    /// The machine, once it was started.
    pub(crate) async fn remote(&self) -> Remote {
        let mut remote = self.remote.subscribe();
        remote.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }
}

impl Engine for FakeEngine {
    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        Box::pin(async { self.findings.clone() })
    }

    fn start(
        &self,
        _kind: EngineKind,
        mut spec: VmSpec,
    ) -> Pending<'_, Result<Box<dyn Machine>, StartError>> {
        Box::pin(async move {
            assert_eq!(spec.control_port, "lanebox.control");
            let servers = spec.filesystems.iter().map(|filesystem| filesystem.server.clone());
            *self.served.lock().unwrap() = servers.collect();
            *self.network.lock().unwrap() = spec.network.take();
            let (control, guest_control) = UnixStream::pair().unwrap();
            let (console, guest_console) = UnixStream::pair().unwrap();
            let remote = Remote {
                exit: watch::Sender::new(None),
                console: Arc::new(tokio::sync::Mutex::new(Some(guest_console))),
                control: Arc::new(guest_control.as_fd().try_clone_to_owned().unwrap()),
            };
            let player = self.player.lock().unwrap().take().expect("one machine");
            let guest = tokio::spawn(player(guest_control, remote.clone()));
            // The end of a machine closes all of its sockets.
            let (mut ended, of) = (remote.exit.subscribe(), remote.clone());
            tokio::spawn(async move {
                let _ = ended.wait_for(Option::is_some).await;
                guest.abort();
                of.hang_up();
                of.console.lock().await.take();
            });
            self.remote.send_replace(Some(remote.clone()));
            self.alive.fetch_add(1, Ordering::SeqCst);
            let alive = self.alive.clone();
            let sockets = (Some(control), Some(console));
            Ok(Box::new(FakeMachine { sockets, remote, alive, disks: spec }) as Box<dyn Machine>)
        })
    }
}

struct FakeMachine {
    sockets: (Option<UnixStream>, Option<UnixStream>),
    remote: Remote,
    alive: Arc<AtomicUsize>,
    #[expect(dead_code, reason = "an engine keeps its files")]
    disks: VmSpec,
}

impl Machine for FakeMachine {
    fn take_control(&mut self) -> UnixStream {
        self.sockets.0.take().unwrap()
    }

    fn take_console(&mut self) -> UnixStream {
        self.sockets.1.take().unwrap()
    }

    fn detail(&self) -> String {
        "played".to_owned()
    }

    fn usage(&self) -> Usage {
        Usage { cpu: Duration::from_secs(3), resident_bytes: 1 << 20 }
    }

    fn warnings(&self) -> Vec<String> {
        vec!["it is only played".to_owned()]
    }

    fn wait(&mut self) -> Pending<'_, Exit> {
        let mut exit = self.remote.exit.subscribe();
        Box::pin(async move { exit.wait_for(Option::is_some).await.unwrap().clone().unwrap() })
    }

    fn kill(&self) {
        self.remote.exit(ExitReason::Killed, None, Some(9));
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.kill();
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}
