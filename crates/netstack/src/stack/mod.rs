//! A running network: its thread, its tasks, and the handle on both.
//!
//! ```text
//! thread "netstack":  epoll ──► Runner ──► Core (frames, flows, bytes)
//!                                 ▲ mailbox   │ questions
//! runtime:                        └── Broker ◄┘ (policy, dialling, services)
//! ```

mod config;
mod core;
mod counters;
mod inbound;
mod ingress;
mod ports;
mod reaching;
mod run;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, PoisonError, RwLock};

use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use config::{Config, Limits};
pub use counters::{Meter, Stats};
pub use ports::{ConnectGuestError, GuestPorts, Published};

use self::core::{Core, Parts};
use crate::device::Device;
use crate::egress::Egress;
use crate::error::Error;
use crate::event::Observer;
use crate::policy::{Broker, BrokerOptions, CurrentPolicy, Policy};
use counters::Counters;
use run::{Command, Mailbox, Runner};

/// A running network. Dropping it ends it; [`Stack::shutdown`] also waits for the end.
pub struct Stack {
    mailbox: Mailbox,
    policy: CurrentPolicy,
    counters: Arc<Counters>,
    ended: oneshot::Receiver<Result<(), Error>>,
    /// What the data path said at its end, while the broker ends.
    outcome: Option<Result<(), Error>>,
    ports: GuestPorts,
    broker: Option<JoinHandle<()>>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Stack {
    /// Starts a network on a device. Policy, dialling and services run in `runtime`, whose
    /// input, output and time must be enabled; frames and bytes on a thread of its own.
    ///
    /// # Errors
    /// When an option is not possible, or the system has no thread or descriptor left.
    pub fn start(
        config: Config,
        device: Device,
        policy: Arc<dyn Policy>,
        observer: Observer,
        runtime: &Handle,
    ) -> Result<Self, Error> {
        config.check()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|error| Error::Setup { what: "event queue", source: error.into() })?;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| Error::Setup { what: "mailbox", source: error.into() })?;
        let bell = Arc::new(bell);
        let (commands, received) = mpsc::channel();
        let mailbox = Mailbox::new(commands, bell.clone());
        let (questions, asked) = unbounded_channel();
        let policy: CurrentPolicy = Arc::new(RwLock::new(policy));
        let counters = Arc::new(Counters::default());
        let egress = Egress::new(config.egress);
        let options = BrokerOptions {
            policy: policy.clone(),
            egress: egress.clone(),
            deadline: config.policy_deadline,
            services: config.limits.tcp,
        };
        let parts = Parts {
            epoll,
            policy: policy.clone(),
            egress,
            offload: device.offloads(),
            questions,
            observer,
            counters: counters.clone(),
            config,
        };
        let (end, ended) = oneshot::channel();
        let (life, lives) = watch::channel(());
        let begins = parts.config.thread_begins;
        let run = move || {
            begins();
            let _life = life;
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Runner::new(Core::new(parts), device, received, bell)?.run()
            }));
            // Nobody may want to know.
            let _ = end.send(outcome.unwrap_or(Err(Error::Panicked)));
        };
        std::thread::Builder::new()
            .name("netstack".to_owned())
            .spawn(run)
            .map_err(|source| Error::Setup { what: "thread", source })?;
        let answers = mailbox.clone();
        let broker = Broker::new(options, move |answer| answers.send(Command::Answer(answer)));
        let broker = Some(runtime.spawn(broker.run(asked)));
        let ports = GuestPorts::new(mailbox.clone(), runtime.clone(), lives);
        Ok(Self { mailbox, policy, counters, ended, outcome: None, ports, broker })
    }

    /// Puts another policy in force. Flows that have their verdict keep it.
    pub fn set_policy(&self, policy: Arc<dyn Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// The way to ports of the guest.
    #[must_use]
    pub fn guest_ports(&self) -> GuestPorts {
        self.ports.clone()
    }

    /// What reads the counters while the stack runs.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter(self.counters.clone())
    }

    /// A look at the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.look()
    }

    /// Waits until the network has ended: because its device has, or by a failure. Can be dropped
    /// and called again until it has told.
    ///
    /// # Errors
    /// The failure. Called again after, [`Error::Panicked`].
    pub async fn ended(&mut self) -> Result<(), Error> {
        if self.outcome.is_none() && self.broker.is_some() {
            self.outcome = Some((&mut self.ended).await.unwrap_or(Err(Error::Panicked)));
        }
        if let Some(broker) = &mut self.broker {
            // It ends because the data path has.
            let _ = broker.await;
        }
        self.broker = None;
        self.outcome.take().unwrap_or(Err(Error::Panicked))
    }

    /// Ends the network: flows are reset, tasks ended.
    ///
    /// # Errors
    /// When it had failed before.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.mailbox.send(Command::ShutDown);
        self.ended().await
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.mailbox.send(Command::ShutDown);
    }
}
