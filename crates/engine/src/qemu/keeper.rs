//! The thread that owns the QEMU process: it has it started, keeps the end of what it writes to its
//! standard error, speaks QMP with it, and reaps it.
//!
//! ```text
//!            ┌──────── keeper thread ────────┐
//! execute ──►│ commands, eventfd             │
//!            │ poll: eventfd, stderr, QMP, ──┼──► ready: version, or why not
//!            │       pidfd                   │
//!            └── process ended: drain, reap ─┴──► ended: Exit
//! ```
//! One thread for all of it, and no task: where there is no launcher, the parent-death signal is
//! bound to the life of this thread, so it must live as long as the process, whatever kind of runtime
//! `start` was called on; and dropping a [`Keeper`] can wait for the thread, after which process,
//! descriptors and thread are gone for certain. The thread blocks in `poll` only, and the process's
//! own end is one of the things it polls for.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc as blocking};
use std::thread::JoinHandle;
use std::time::Duration;

use confine::Role;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{mpsc, oneshot, watch};

use super::process::Process;
use super::qmp::Version;
use crate::error::{ControlError, StartError};
use crate::exit::{Exit, ExitReason};
use crate::sys::pidfd::PidFd;

/// A command that waits for its turn.
pub(super) struct Order {
    pub(super) command: &'static str,
    pub(super) answer: oneshot::Sender<Result<(), ControlError>>,
}

/// Commands that may wait at the same time.
const ORDERS: usize = 8;
/// How long a command may take.
const ORDER_DEADLINE: Duration = Duration::from_secs(5);
/// How long dropping waits for a process that was sent SIGKILL. Only a process that hangs inside
/// the host's kernel takes longer.
const DEATH_DEADLINE: Duration = Duration::from_secs(5);

/// What both sides see.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) process: OnceLock<(u32, PidFd)>,
    pub(super) killed: AtomicBool,
    pub(super) orders_came: EventFd,
}

/// What the thread tells.
pub(super) struct Reports {
    pub(super) ready: Option<oneshot::Sender<Result<Version, StartError>>>,
    pub(super) ended: watch::Sender<Option<Exit>>,
}

/// Handle on the thread and, through it, on the process.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    ended: watch::Receiver<Option<Exit>>,
    thread: Option<JoinHandle<()>>,
    thread_ends: blocking::Receiver<()>,
}

impl Keeper {
    /// Starts the thread, which starts the process. `monitor` is the host's end of QMP. The second
    /// result resolves when QEMU has set the machine up, and fails to when it ended before.
    pub(super) fn start(
        command: Command,
        monitor: std::os::unix::net::UnixStream,
    ) -> Result<(Self, oneshot::Receiver<Result<Version, StartError>>), StartError> {
        let resource = |what| move |source| StartError::Resource { what, source };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let orders_came = EventFd::from_value_and_flags(0, flags)
            .map_err(std::io::Error::from)
            .map_err(resource("an eventfd"))?;
        monitor.set_nonblocking(true).map_err(resource("the control channel"))?;
        let shared = Arc::new(Shared {
            process: OnceLock::new(),
            killed: AtomicBool::new(false),
            orders_came,
        });
        let (orders, order_queue) = mpsc::channel(ORDERS);
        let (ready_sender, ready) = oneshot::channel();
        let (ended_sender, ended) = watch::channel(None);
        let (alive, thread_ends) = blocking::channel::<()>();
        let reports = Reports { ready: Some(ready_sender), ended: ended_sender };
        let for_thread = Arc::clone(&shared);
        let run = move || {
            confine::thread(Role::Keeper);
            let _alive = alive;
            Process::run(command, monitor, &for_thread, order_queue, reports);
        };
        let thread = std::thread::Builder::new()
            .name("engine-keeper".to_owned())
            .stack_size(512 * 1024)
            .spawn(run)
            .map_err(resource("a thread"))?;
        Ok((Self { shared, orders, ended, thread: Some(thread), thread_ends }, ready))
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        self.shared.process.get().map(|(pid, _)| *pid)
    }

    pub(super) fn kill(&self) {
        self.shared.kill();
    }

    pub(super) async fn wait(&mut self) -> Exit {
        let ended = self.ended.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone());
        ended.unwrap_or_else(|| Exit {
            code: None,
            signal: None,
            reason: ExitReason::Failed,
            last_words: "the thread that kept the engine is gone".to_owned(),
        })
    }

    /// Has QEMU execute a command without arguments.
    pub(super) async fn execute(&self, command: &'static str) -> Result<(), ControlError> {
        let (answer, answered) = oneshot::channel();
        let order = async {
            self.orders.send(Order { command, answer }).await.map_err(|_| ControlError::Gone)?;
            self.shared.wake();
            answered.await.map_err(|_| ControlError::Gone)?
        };
        tokio::time::timeout(ORDER_DEADLINE, order)
            .await
            .unwrap_or(Err(ControlError::Deadline(ORDER_DEADLINE)))
    }
}

impl Shared {
    /// Kills the process, or has the thread do it as soon as there is one.
    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.kill_if_started();
    }

    /// The other half of [`Shared::kill`]: whoever of the two comes second sends the signal.
    pub(super) fn kill_if_started(&self) {
        if let Some((pid, handle)) = self.process.get()
            && self.killed.load(Ordering::SeqCst)
            && let Err(error) = handle.kill()
        {
            tracing::error!(pid, %error, "the engine cannot be killed");
        }
    }

    fn wake(&self) {
        // Only a counter that is full refuses, and then the thread is awake anyway.
        let _ = self.orders_came.write(1);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.kill();
        // Disconnects when the thread ends; nothing is ever sent.
        match self.thread_ends.recv_timeout(DEATH_DEADLINE) {
            Err(blocking::RecvTimeoutError::Timeout) => {
                let pid = self.process_id();
                tracing::error!(pid, "the engine does not end although it was killed");
            }
            Ok(()) | Err(blocking::RecvTimeoutError::Disconnected) => {
                if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
                    tracing::error!("the thread that kept the engine panicked");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
