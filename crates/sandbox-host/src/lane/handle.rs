//! How the rest of the process talks to the lane's task.

use std::sync::Arc;
use std::time::Duration;

use blockcow::Traffic;
use engine::Usage;
use engine::probe::{EngineKind, Finding, IsolationKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::actor::Actor;
use super::end::Ended;
use super::journal::Journal;
use super::streams::Streams;
use crate::error::Error;
use crate::granted::Granted;
use crate::guest::Guest;
use crate::limits::{LANE_COMMANDS, MAX_FILE_CALLS, MAX_RUNS, MAX_WATCHERS};
use crate::network::Control;
use crate::request::BootPlan;
use crate::{block_store, mount, network};

/// What was booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// The engine that runs the VM.
    pub engine: EngineKind,
    /// The isolation in force.
    pub isolation: IsolationKind,
    /// One line for people.
    pub detail: String,
    /// Release of the guest's kernel.
    pub kernel_release: String,
}

/// What a VM has used so far.
#[derive(Debug)]
pub struct Measured {
    /// Since the engine was started.
    pub uptime: Duration,
    /// By the engine and this process.
    pub host: Usage,
    /// Of the root disk, by the guest.
    pub disk: Traffic,
    /// By the guest, when it has a network.
    pub network: Option<Traffic>,
    /// Whom to ask about the guest's processes.
    pub guest: Guest,
}

/// What the actor can be asked for.
pub(super) enum Command {
    /// Boot; dropping the receiver cancels.
    Boot(Box<BootPlan>, oneshot::Sender<Result<Booted, Error>>),
    /// Give the connection to the guest, if processes can run.
    Guest(oneshot::Sender<Result<Guest, Error>>),
    /// Give what can be done to the network, while there is one.
    Network(oneshot::Sender<Result<Arc<Control>, Error>>),
    /// Tell what was used so far, while processes can run.
    Measure(oneshot::Sender<Result<Measured, Error>>),
    /// End the VM within this time; answered when it has ended.
    Shutdown(Duration, oneshot::Sender<Arc<Ended>>),
}

/// Room for one `Run`; given back when dropped.
#[derive(Debug)]
pub struct RunPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Room for one `Wait`; given back when dropped.
#[derive(Debug)]
pub struct WaitPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Room for one call about files; given back when dropped.
#[derive(Debug)]
pub struct FilePermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Room for one `Watch`; given back when dropped.
#[derive(Debug)]
pub struct WatchPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// The lane, for everybody but its own task. Clones are the same lane.
#[derive(Clone)]
pub struct Lane {
    commands: mpsc::Sender<Command>,
    journal: Arc<Journal>,
    engine: Arc<dyn Engine>,
    streams: Arc<Streams>,
    granted: Arc<Granted>,
    runs: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    files: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
}

impl Lane {
    /// Starts the lane's task. When `terminate` fires it kills what runs and ends.
    pub fn spawn(
        engine: Arc<dyn Engine>,
        granted: Arc<Granted>,
        terminate: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (commands, received) = mpsc::channel(LANE_COMMANDS);
        let journal = Arc::new(Journal::default());
        let streams = Arc::new(Streams::default());
        let surroundings = (journal.clone(), streams.clone(), granted.clone());
        let actor = Actor::new(received, surroundings, engine.clone(), terminate);
        let lane = Self {
            commands,
            journal,
            engine,
            streams,
            granted,
            runs: Arc::new(Semaphore::new(MAX_RUNS as usize)),
            waits: Arc::new(Semaphore::new(MAX_RUNS as usize)),
            files: Arc::new(Semaphore::new(MAX_FILE_CALLS as usize)),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS as usize)),
        };
        (lane, tokio::spawn(actor.run()))
    }

    /// What has happened.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What this process was granted.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// The callback filesystems that are attached.
    pub fn filesystems(&self) -> &mount::Registry {
        &self.streams.filesystems
    }

    /// The block stores that are attached.
    pub fn block_stores(&self) -> &block_store::Registry {
        &self.streams.block_stores
    }

    /// The network policies that are attached.
    pub fn networks(&self) -> &network::Registry {
        &self.streams.networks
    }

    /// What this host can run.
    pub async fn probe(&self) -> Vec<Finding> {
        self.engine.probe().await
    }

    /// Boots; dropping the future ends everything that was started.
    ///
    /// # Errors
    /// [`Error`], when nothing is left of the boot.
    pub async fn boot(&self, plan: BootPlan) -> Result<Booted, Error> {
        self.ask(|reply| Command::Boot(Box::new(plan), reply)).await?
    }

    /// The connection to the guest, while processes can run.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Closed`] or [`Error::Ended`].
    pub async fn guest(&self) -> Result<Guest, Error> {
        self.ask(Command::Guest).await?
    }

    /// What can be done to the network, while processes can run.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::NoNetwork`], [`Error::Closed`] or [`Error::Ended`].
    pub async fn network(&self) -> Result<Arc<Control>, Error> {
        self.ask(Command::Network).await?
    }

    /// What was used so far.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Closed`] or [`Error::Ended`].
    pub async fn measure(&self) -> Result<Measured, Error> {
        self.ask(Command::Measure).await?
    }

    /// Ends the VM and waits until it is gone. Can be called any number of times at once; the
    /// shortest deadline holds.
    ///
    /// # Errors
    /// [`Error::Exiting`].
    pub async fn shutdown(&self, deadline: Duration) -> Result<Arc<Ended>, Error> {
        self.ask(|reply| Command::Shutdown(deadline, reply)).await
    }

    /// Room for one more process.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn permit_run(&self) -> Result<RunPermit, Error> {
        let what = "processes running";
        let permit = self.runs.clone().try_acquire_owned();
        permit.map(RunPermit).map_err(|_| Error::Limit { what, limit: MAX_RUNS })
    }

    /// Room for one more wait.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn permit_wait(&self) -> Result<WaitPermit, Error> {
        let what = "waits for processes";
        let permit = self.waits.clone().try_acquire_owned();
        permit.map(WaitPermit).map_err(|_| Error::Limit { what, limit: MAX_RUNS })
    }

    /// Room for one more call about files.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn permit_file(&self) -> Result<FilePermit, Error> {
        let what = "calls about files";
        let permit = self.files.clone().try_acquire_owned();
        permit.map(FilePermit).map_err(|_| Error::Limit { what, limit: MAX_FILE_CALLS })
    }

    /// Room for one more watcher.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub fn permit_watch(&self) -> Result<WatchPermit, Error> {
        let what = "watchers";
        let permit = self.watchers.clone().try_acquire_owned();
        permit.map(WatchPermit).map_err(|_| Error::Limit { what, limit: MAX_WATCHERS })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Error::Exiting)?;
        answer.await.map_err(|_| Error::Exiting)
    }
}
