//! A machine that this process runs, and the thread that looks after it.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use confine::Role;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::builder::{self, Order, Running};
use super::control::{Control, End};
use crate::error::{ControlError, StartError};
use crate::exit::{Exit, ExitReason};
use crate::spec::VmSpec;
use crate::sys::{tsc, vcpu};
use crate::threads;
use crate::vm::Ports;

/// How long it may take to set a machine up. It takes some ten milliseconds.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// How long processors may take to pause.
const CONTROL_DEADLINE: Duration = Duration::from_secs(5);
/// How long dropping waits for the end.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// Which of libkrun's parts they are.
const VERSION: &str = "0.1.42";

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    control: Arc<Control>,
    ended: watch::Receiver<Option<Exit>>,
    keeper: Option<JoinHandle<()>>,
    /// Says nothing, and is closed when nothing of the machine is left.
    gone: Receiver<()>,
}

impl Machine {
    /// Sets a machine up; the guest is running when this returns.
    pub(crate) async fn start(spec: VmSpec) -> Result<(Self, Ports), StartError> {
        let pair =
            |what| UnixStream::pair().map_err(|source| StartError::Resource { what, source });
        let (control_port, guest_control) = pair("the control port")?;
        let (console, guest_console) = pair("the console")?;
        let cpus = usize::try_from(spec.cpus).unwrap_or(usize::MAX);
        let control = Arc::new(Control::new(cpus));
        let order = Order {
            spec,
            control_port: guest_control,
            console: guest_console,
            tsc_khz: tsc::khz().await,
            control: Arc::clone(&control),
        };
        let (ready, started) = oneshot::channel();
        let (tell, ended) = watch::channel(None);
        let (here, gone) = sync_channel(0);
        let its_control = Arc::clone(&control);
        let keeper = threads::spawn(Role::Machine, "engine-krun".to_owned(), move || {
            keep(order, &its_control, ready, &tell);
            drop(here);
        })
        .map_err(|source| StartError::Resource { what: "the machine's thread", source })?;
        let mut machine = Self { control, ended, keeper: Some(keeper), gone };
        match timeout(READY_DEADLINE, started).await {
            Ok(Ok(Ok(()))) => Ok((machine, Ports { control: control_port, console })),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(StartError::Ended(machine.wait().await)),
            Err(_) => {
                let exit = exit(End::Killed);
                Err(StartError::NotReady { waited: READY_DEADLINE, exit })
            }
        }
    }

    pub(crate) fn detail(&self) -> String {
        format!("KVM with the machine of libkrun (msb_krun {VERSION}), in this process")
    }

    pub(crate) async fn wait(&mut self) -> Exit {
        match self.ended.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(defect),
            Err(_) => defect(),
        }
    }

    pub(crate) fn kill(&self) {
        self.control.end(End::Killed);
    }

    pub(crate) async fn pause(&self) -> Result<(), ControlError> {
        self.control.set_paused(true);
        let paused = timeout(CONTROL_DEADLINE, self.control.all_still()).await;
        if self.control.is_ended() {
            return Err(ControlError::Gone);
        }
        paused.map_err(|_| {
            // It is not paused, so it is not to become so later.
            self.control.set_paused(false);
            ControlError::Deadline(CONTROL_DEADLINE)
        })
    }

    pub(crate) fn resume(&self) -> Result<(), ControlError> {
        self.control.set_paused(false);
        if self.control.is_ended() { Err(ControlError::Gone) } else { Ok(()) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.control.end(End::Killed);
        let Some(keeper) = self.keeper.take() else { return };
        match self.gone.recv_timeout(END_DEADLINE) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("a machine is still busy in the host's kernel; it ends after that");
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => drop(keeper.join()),
        }
    }
}

/// What the thread does.
fn keep(
    order: Order,
    control: &Control,
    ready: oneshot::Sender<Result<(), StartError>>,
    tell: &watch::Sender<Option<Exit>>,
) {
    // For the processors' threads, which are born with it: a kill may come before their first step.
    if let Err(errno) = vcpu::block_interrupt() {
        let problem = StartError::Resource { what: "a signal mask", source: errno.into() };
        let _ = ready.send(Err(problem));
        return;
    }
    let Running { processors, _buses: buses, devices } = match builder::build(order) {
        Ok(running) => running,
        Err(error) => {
            // Nobody listens when the start was given up.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let end = control.all_left(processors.len(), || {
        for device in devices.iter().filter(|device| device.has_ended()) {
            control.end(End::Failed(format!("The {} failed", device.name)));
        }
    });
    processors.into_iter().for_each(|thread| drop(thread.join()));
    // The last that was left of it.
    drop((buses, devices));
    let exit = exit(end);
    tracing::debug!(?exit, "the machine ended");
    tell.send_replace(Some(exit));
}

fn exit(end: End) -> Exit {
    let (reason, last_words) = match end {
        End::Reset => (ExitReason::GuestReset, String::new()),
        End::Killed => (ExitReason::Killed, String::new()),
        End::Failed(why) => (ExitReason::Failed, why),
    };
    Exit { code: None, signal: None, reason, last_words }
}

fn defect() -> Exit {
    exit(End::Failed("The machine's thread ended unexpectedly".to_owned()))
}
