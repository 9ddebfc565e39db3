//! From a plan to a machine whose guest is set up.
//!
//! ```text
//! probe ► open-artifacts ► open-disk ► open-mounts ► open-network ► start-engine ► connect-guest ►
//!          guest's steps
//!          kernel, initramfs: digest    root image: digest, while the kernel boots
//! ```
//! The machine is put into the caller's slot as soon as there is one: whoever stops listening to
//! this future finds there what is to be killed.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use blockcow::Disk;
use engine::probe::choose;
use engine::{DiskSpec, Exit, NetworkSpec, Usage, VmSpec};
use protocol::guest::v1::{ConfigureRequest, RootFilesystem};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::handle::{Booted, Measured};
use super::journal::Journal;
use super::streams::Streams;
use super::{Engine, Machine};
use crate::artifact::{Artifact, ArtifactError};
use crate::disk::{self, RootDisk};
use crate::error::{BootCause, BootFailure, Error};
use crate::granted::Granted;
use crate::guest::{Guest, GuestError};
use crate::limits::{CHANNEL_LOST, CONSOLE_DRAIN, CONSOLE_TAIL};
use crate::mount::Mounts;
use crate::network::Network;
use crate::request::{ArtifactPath, BootPlan, NetworkPlan};

/// Where the guest finds its root disk, and what mounts it.
const ROOT_DEVICE: &str = "/dev/vda";
const ROOT_TYPE: &str = "ext4";
const ROOT_SERIAL: &str = "root";

/// What a boot works on.
pub(super) struct Boot<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) journal: &'a Arc<Journal>,
    pub(super) streams: &'a Streams,
    pub(super) granted: &'a Granted,
    /// Where the machine goes, with the task that reads its console.
    pub(super) slot: &'a mut Option<Live>,
}

/// A machine and the task that reads its console.
pub(super) struct Live {
    pub(super) machine: Box<dyn Machine>,
    pub(super) console: JoinHandle<()>,
    pub(super) mounts: Mounts,
    pub(super) disk: Arc<Disk>,
    pub(super) network: Option<Network>,
    pub(super) started: Instant,
}

/// The files of a boot, opened; kernel and initramfs are verified, the root image is being.
struct Files {
    kernel: Artifact,
    initramfs: Artifact,
    root: Artifact,
}

type OpenTask = JoinHandle<Result<Artifact, ArtifactError>>;

/// Files that threads are opening; given up when this is dropped.
struct Opening {
    kernel: OpenTask,
    initramfs: OpenTask,
    root: OpenTask,
    _give_up: DropGuard,
}

/// A check that goes on in a thread; given up when this is dropped.
struct Checking {
    result: JoinHandle<Result<(), ArtifactError>>,
    _give_up: DropGuard,
}

impl Boot<'_> {
    /// Boots. Returns the guest and what to tell the caller.
    pub(super) async fn run(mut self, mut plan: BootPlan) -> Result<(Guest, Booted), Error> {
        self.granted.check_boot(&plan)?;
        let report = self.granted.report();
        report.missing.iter().for_each(|missing| self.journal.warn(missing.clone()));
        // The files are read while the probe looks; each fails in its own step.
        let opening = Opening::start(&plan);
        self.journal.step("probe");
        let findings = self.engine.probe().await;
        let choice = choose(plan.minimum, plan.engine, &findings)?;

        self.journal.step("open-artifacts");
        let Files { kernel, initramfs, root } = opening.done().await?;
        let served = root.duplicate()?;
        let root = Arc::new(root);
        if plan.root.overlay.is_some() {
            self.journal.step("open-disk");
        }
        let around = disk::Around {
            stores: &self.streams.block_stores,
            journal: self.journal,
            granted: self.granted,
        };
        let root_disk = disk::open(&root, served, &plan.root, around).await?;
        let checking = Checking::start(root, &plan.root.file);

        self.journal.step("open-mounts");
        let mounts = Mounts::open(&plan.mounts, &self.streams.filesystems, self.journal).await?;

        let (network, device) = self.open_network(plan.network.take()).await?;

        self.journal.step("start-engine");
        let spec = VmSpec {
            cpus: plan.cpus,
            memory_mib: plan.memory_mib,
            kernel: kernel.into_file(),
            initramfs: initramfs.into_file(),
            control_port: protocol::CONTROL_PORT.to_owned(),
            disks: vec![DiskSpec {
                serial: ROOT_SERIAL.to_owned(),
                disk: Arc::clone(&root_disk.disk),
            }],
            filesystems: mounts.served(),
            network: device,
        };
        let machine = match self.engine.start(choice.engine, spec).await {
            Ok(machine) => machine,
            Err(error) => {
                if let Some(network) = network {
                    network.end().await;
                }
                return Err(self.failure(BootCause::Engine(error)));
            }
        };
        let detail = format!("{}; {report}", machine.detail());
        machine.warnings().into_iter().for_each(|warning| self.journal.warn(warning));
        let disk = Arc::clone(&root_disk.disk);
        let control = self.keep(machine, mounts, disk, network);

        self.journal.step("connect-guest");
        let connect = async {
            let guest = Guest::connect(control).await?;
            guest.heard().await?;
            Ok(guest)
        };
        let guest = match self.or_exit(connect).await? {
            Ok(guest) => guest,
            Err(error) => return Err(self.guest_failure(error).await),
        };
        self.or_exit(checking.done()).await??;
        let journal = self.journal.clone();
        let configuration = configuration(plan, &root_disk, self.slot.as_ref());
        let configure = guest.configure(configuration, |name| journal.step(name));
        let configured = self.or_exit(configure).await?;
        let (kernel_release, warnings) = match configured {
            Ok(configured) => configured,
            Err(error) => return Err(self.guest_failure(error).await),
        };
        warnings.into_iter().for_each(|warning| self.journal.warn(format!("Guest: {warning}")));
        if let Some(live) = self.slot.as_mut() {
            live.mounts.announce_to(&guest);
        }
        let (engine, isolation) = (choice.engine, choice.isolation);
        Ok((guest, Booted { engine, isolation, detail, kernel_release }))
    }

    /// Starts the network, if there is to be one, and its device.
    async fn open_network(
        &mut self,
        plan: Option<NetworkPlan>,
    ) -> Result<(Option<Network>, Option<NetworkSpec>), Error> {
        let registry = &self.streams.networks;
        let Some(plan) = plan else {
            // What is attached later would never be used.
            registry.close();
            return Ok((None, None));
        };
        self.journal.step("open-network");
        let (network, device) = Network::start(plan, registry, self.journal).await?;
        Ok((Some(network), Some(device)))
    }

    /// Puts the machine where the caller finds it, and lets its console be read.
    fn keep(
        &mut self,
        mut machine: Box<dyn Machine>,
        mounts: Mounts,
        disk: Arc<Disk>,
        network: Option<Network>,
    ) -> UnixStream {
        let control = machine.take_control();
        let source = machine.take_console();
        let journal = self.journal.clone();
        let console = tokio::spawn(async move { journal.console().fill_from(source).await });
        let started = Instant::now();
        *self.slot = Some(Live { machine, console, mounts, disk, network, started });
        control
    }

    /// Waits for something, or for the machine's end.
    async fn or_exit<T>(&mut self, wanted: impl Future<Output = T>) -> Result<T, Error> {
        let Some(live) = self.slot.as_mut() else {
            return Ok(wanted.await);
        };
        let exit = tokio::select! {
            biased;
            done = wanted => return Ok(done),
            exit = live.machine.wait() => exit,
        };
        Err(self.exited(exit).await)
    }

    /// A broken connection is most often the end of the machine, which says more.
    async fn guest_failure(&mut self, error: GuestError) -> Error {
        if let (GuestError::Lost, Some(live)) = (&error, self.slot.as_mut())
            && let Ok(exit) = timeout(CHANNEL_LOST, live.machine.wait()).await
        {
            return self.exited(exit).await;
        }
        self.failure(error.into())
    }

    async fn exited(&mut self, exit: Exit) -> Error {
        if let Some(live) = self.slot.as_mut() {
            live.drain_console().await;
        }
        self.failure(BootCause::Exit(exit))
    }

    fn failure(&self, cause: BootCause) -> Error {
        failure(self.journal, cause)
    }
}

impl Live {
    /// What was used so far. The network may have been taken out already.
    pub(super) fn measure(&self, network: Option<&Network>, guest: &Guest) -> Measured {
        Measured {
            uptime: self.started.elapsed(),
            host: self.machine.usage().and(Usage::of(std::process::id())),
            disk: self.disk.traffic(),
            network: network.map(Network::traffic),
            guest: guest.clone(),
        }
    }

    /// Waits for what the engine has still written of the console.
    pub(super) async fn drain_console(&mut self) {
        if self.console.is_finished() {
            return;
        }
        if timeout(CONSOLE_DRAIN, &mut self.console).await.is_err() {
            tracing::debug!("the console did not end with its engine");
            self.console.abort();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.console.abort();
    }
}

impl Checking {
    fn start(root: Arc<Artifact>, expected: &ArtifactPath) -> Self {
        let (expected, cancel) = (expected.digest, CancellationToken::new());
        let give_up = cancel.clone().drop_guard();
        let result = spawn_blocking(move || root.verify(expected, &cancel));
        Self { result, _give_up: give_up }
    }

    async fn done(self) -> Result<(), Error> {
        match self.result.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Error::Defect("The thread that checks the root image")),
        }
    }
}

/// A failure of the boot at the step where it is.
pub(crate) fn failure(journal: &Journal, cause: BootCause) -> Error {
    let step = match &cause {
        BootCause::Guest(GuestError::Refused(refusal)) if !refusal.step.is_empty() => {
            refusal.step.clone()
        }
        _ => journal.status().step,
    };
    let console_tail = journal.console().tail(CONSOLE_TAIL);
    Error::Boot(Box::new(BootFailure { step, cause, console_tail }))
}

impl Opening {
    /// Opens the files, and verifies those that the engine reads at once, side by side.
    fn start(plan: &BootPlan) -> Self {
        let cancel = CancellationToken::new();
        let verified = |what: &'static str, wanted: &ArtifactPath| {
            let (wanted, cancel) = (wanted.clone(), cancel.clone());
            spawn_blocking(move || {
                let artifact = Artifact::open(what, &wanted.path)?;
                artifact.verify(wanted.digest, &cancel)?;
                Ok(artifact)
            })
        };
        let (path, size) = (plan.root.file.path.clone(), plan.root.size);
        Self {
            kernel: verified("kernel", &plan.kernel),
            initramfs: verified("initial filesystem", &plan.initramfs),
            root: spawn_blocking(move || Artifact::open("root image", &path)?.expect_size(size)),
            _give_up: cancel.drop_guard(),
        }
    }

    async fn done(self) -> Result<Files, Error> {
        Ok(Files {
            kernel: finished(self.kernel).await?,
            initramfs: finished(self.initramfs).await?,
            root: finished(self.root).await?,
        })
    }
}

async fn finished(task: OpenTask) -> Result<Artifact, Error> {
    match task.await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Defect("The thread that opens files")),
    }
}

fn configuration(plan: BootPlan, root: &RootDisk, live: Option<&Live>) -> ConfigureRequest {
    let network = live.and_then(|live| live.network.as_ref());
    let placeholders = network.map(Network::placeholders).unwrap_or_default();
    let mut env = plan.env;
    env.extend(placeholders.iter().cloned());
    ConfigureRequest {
        root: Some(RootFilesystem {
            device: ROOT_DEVICE.to_owned(),
            r#type: ROOT_TYPE.to_owned(),
            read_only: !root.disk.is_writable(),
            capacity_blocks: root.capacity_blocks.unwrap_or(0),
            discard: root.discards,
        }),
        hostname: plan.hostname,
        time_unix_nanos: unix_nanos(SystemTime::now()),
        cwd: plan.cwd,
        env,
        mounts: live.map(|live| live.mounts.in_guest()).unwrap_or_default(),
        network: network.map(Network::in_guest),
    }
}

/// Nanoseconds since the Unix epoch; 0 before it.
pub(crate) fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
