//! How a machine that runs is brought to its end: asked, waited for, killed.

use std::sync::Arc;
use std::time::Duration;

use engine::{Exit, ExitReason};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::actor::Actor;
use super::boot::Live;
use super::end::{EndReason, Ended};
use super::handle::Command;
use super::journal::State;
use crate::disk;
use crate::error::Error;
use crate::guest::{Guest, GuestError};
use crate::limits::{CHANNEL_LOST, DISK_CLOSE, ENGINE_GONE, SHUTDOWN_GRACE};

/// Those who wait for the VM's end, and the time that they give it.
#[derive(Default)]
pub(super) struct Closers {
    pub(super) replies: Vec<oneshot::Sender<Arc<Ended>>>,
    deadline: Option<Instant>,
}

impl Closers {
    /// One more; the shortest time holds.
    pub(super) fn add(&mut self, within: Duration, reply: oneshot::Sender<Arc<Ended>>) {
        let deadline = Instant::now() + within;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self.replies.push(reply);
    }
}

impl Actor {
    /// The control channel broke. Most often the machine is about to end, which says more; if it
    /// is not, nothing can be done with it any more.
    pub(super) async fn lost(&mut self, mut live: Live) -> Ended {
        let patience = sleep_until(Instant::now() + CHANNEL_LOST);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                biased;
                command = self.next_command() => match command {
                    None => break,
                    Some(Command::Boot(_, reply)) => {
                        let _ = reply.send(Err(Error::SecondBoot(State::Running)));
                    }
                    Some(Command::Guest(reply)) => {
                        let _ = reply.send(Err(GuestError::Lost.into()));
                    }
                    Some(Command::Network(reply)) => {
                        let _ = reply.send(Err(GuestError::Lost.into()));
                    }
                    Some(Command::Measure(reply)) => {
                        let _ = reply.send(Err(GuestError::Lost.into()));
                    }
                    Some(Command::Shutdown(within, reply)) => {
                        self.closers.add(within, reply);
                        break;
                    }
                },
                exit = live.machine.wait() => {
                    live.drain_console().await;
                    return Ended::unasked(&exit, self.journal.console().shows_panic());
                }
                () = &mut patience => break,
            }
        }
        let exit = self.end_now(live).await;
        let message = "The guest's control channel broke, and the VM was ended for it";
        Ended::new(EndReason::GuestStopped, message, exit.as_ref())
    }

    /// Asks the guest to end, and kills the engine when the deadline passes or the guest refuses.
    pub(super) async fn closing(&mut self, mut live: Live, guest: Guest) -> Ended {
        self.journal.enter(State::Closing);
        live.mounts.hurry();
        let mut deadline = self.closers.deadline.unwrap_or_else(Instant::now);
        let time = deadline.saturating_duration_since(Instant::now());
        let mut asked = Some(Box::pin(guest.shutdown(SHUTDOWN_GRACE.min(time / 4))));
        let stopped = loop {
            tokio::select! {
                biased;
                command = self.next_command() => match command {
                    None => break None,
                    Some(Command::Boot(_, reply)) => {
                        let _ = reply.send(Err(Error::SecondBoot(State::Closing)));
                    }
                    Some(Command::Guest(reply)) => {
                        let _ = reply.send(Err(Error::Closed));
                    }
                    Some(Command::Network(reply)) => {
                        let _ = reply.send(Err(Error::Closed));
                    }
                    Some(Command::Measure(reply)) => {
                        let _ = reply.send(Err(Error::Closed));
                    }
                    Some(Command::Shutdown(within, reply)) => {
                        self.closers.add(within, reply);
                        deadline = self.closers.deadline.unwrap_or(deadline);
                    }
                },
                exit = live.machine.wait() => break Some(exit),
                answer = async {
                    match asked.as_mut() {
                        Some(asked) => asked.await,
                        None => std::future::pending().await,
                    }
                } => {
                    asked = None;
                    match answer {
                        Ok(problems) => {
                            problems.into_iter().for_each(|problem| self.journal.warn(problem));
                            guest.disconnect();
                        }
                        Err(error) => {
                            // It may have reset before its answer was through.
                            tracing::debug!(%error, "the guest did not answer Shutdown");
                            deadline = deadline.min(Instant::now() + CHANNEL_LOST);
                        }
                    }
                },
                () = sleep_until(deadline) => break None,
            }
        };
        match stopped {
            Some(exit) => {
                live.drain_console().await;
                let left = deadline.saturating_duration_since(Instant::now()).max(DISK_CLOSE);
                if let Some(lost) = disk::close(Arc::clone(&live.disk), left).await {
                    self.journal.warn(lost);
                }
                closed(&exit)
            }
            None => {
                let exit = self.end_now(live).await;
                let message = "The guest did not stop in time and was killed";
                Ended::new(EndReason::Killed, message, exit.as_ref())
            }
        }
    }

    /// Kills the machine and waits until nothing is left of it, within reason.
    pub(super) async fn end_now(&self, mut live: Live) -> Option<Exit> {
        live.machine.kill();
        let exit = timeout(ENGINE_GONE, live.machine.wait()).await.ok();
        match &exit {
            Some(_) => live.drain_console().await,
            None => tracing::error!("the killed engine is still there"),
        }
        if let Some(network) = live.network.take() {
            network.end().await;
        }
        exit
    }
}

/// The end after Shutdown, when the engine ended by itself.
fn closed(exit: &Exit) -> Ended {
    match exit.reason {
        ExitReason::Failed => Ended::unasked(exit, false),
        _ => Ended::new(EndReason::Closed, "Closed", Some(exit)),
    }
}

/// The end of a machine whose owner is gone.
pub(super) fn terminated(exit: Option<&Exit>) -> Ended {
    Ended::new(EndReason::Killed, "The client left", exit)
}
