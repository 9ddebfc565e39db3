//! The task that owns the VM. Each state is a function that serves commands until it is over and
//! returns what comes next; see the picture in the module above.

use std::sync::Arc;
use std::time::Duration;

use engine::{Exit, ExitReason};
use protocol::ErrorDetail;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::boot::{self, Boot, Live};
use super::end::{EndReason, Ended};
use super::handle::{Booted, Command};
use super::journal::{Journal, State};
use crate::error::{BootCause, Error};
use crate::guest::Guest;
use crate::limits::{CHANNEL_LOST, ENGINE_GONE, SHUTDOWN_GRACE};
use crate::request::BootPlan;

type BootReply = oneshot::Sender<Result<Booted, Error>>;

/// Those who wait for the VM's end, and the time that they give it.
#[derive(Default)]
struct Closers {
    replies: Vec<oneshot::Sender<Arc<Ended>>>,
    deadline: Option<Instant>,
}

/// What ends the time without a VM.
enum Begin {
    Boot(Box<BootPlan>, BootReply),
    End(Ended),
}

/// Why a boot was given up.
enum Stop {
    Failed(Error),
    Closed,
    Terminated,
}

/// How running came to its end.
enum Over {
    Exited(Exit),
    Close,
    Lost,
    Terminated,
}

pub(super) struct Actor {
    commands: mpsc::Receiver<Command>,
    journal: Arc<Journal>,
    engine: Arc<dyn Engine>,
    terminate: CancellationToken,
    closers: Closers,
}

impl Actor {
    pub(super) fn new(
        commands: mpsc::Receiver<Command>,
        journal: Arc<Journal>,
        engine: Arc<dyn Engine>,
        terminate: CancellationToken,
    ) -> Self {
        Self { commands, journal, engine, terminate, closers: Closers::default() }
    }

    /// The whole life.
    pub(super) async fn run(mut self) {
        let ended = match self.idle().await {
            Begin::Boot(plan, reply) => match self.booting(*plan, reply).await {
                Ok((live, guest)) => self.running(live, guest).await,
                Err(ended) => ended,
            },
            Begin::End(ended) => ended,
        };
        let ended = self.journal.end(ended);
        tracing::info!(reason = ?ended.reason, message = ended.message, "the VM has ended");
        for reply in self.closers.replies.drain(..) {
            let _ = reply.send(ended.clone());
        }
        self.exited(&ended).await;
    }

    async fn idle(&mut self) -> Begin {
        loop {
            let Some(command) = self.next_command().await else {
                return Begin::End(terminated(None));
            };
            match command {
                Command::Boot(plan, reply) => return Begin::Boot(plan, reply),
                Command::Guest(reply) => {
                    let _ = reply.send(Err(Error::NotRunning(State::Idle)));
                }
                Command::Shutdown(within, reply) => {
                    self.closers.add(within, reply);
                    let ended = Ended::new(EndReason::Closed, "Closed before it was booted", None);
                    return Begin::End(ended);
                }
            }
        }
    }

    /// Boots. Whatever stops it, nothing of the machine is left when the caller hears of it.
    async fn booting(
        &mut self,
        plan: BootPlan,
        mut reply: BootReply,
    ) -> Result<(Live, Guest), Ended> {
        self.journal.enter(State::Booting);
        let mut slot = None;
        let result = self.boot_or_stop(plan, &mut reply, &mut slot).await;
        let stop = match (result, slot.take()) {
            (Ok((guest, booted)), Some(live)) => {
                self.journal.enter(State::Running);
                tracing::info!(detail = booted.detail, "the VM is up");
                match reply.send(Ok(booted)) {
                    Ok(()) => return Ok((live, guest)),
                    // The caller went away at the last moment: that is a cancelled boot.
                    Err(_) => {
                        let error = boot::failure(&self.journal, BootCause::Cancelled);
                        self.end_now(live).await;
                        return Err(self.boot_failed(error).1);
                    }
                }
            }
            (Ok(_), None) => Stop::Failed(Error::Defect("Boot without a machine")),
            (Err(stop), live) => {
                if let Some(live) = live {
                    self.end_now(live).await;
                }
                stop
            }
        };
        let (error, ended) = match stop {
            Stop::Failed(error) => self.boot_failed(error),
            Stop::Closed => {
                let ended = Ended::new(EndReason::Closed, "Closed while it was booting", None);
                (Error::Closed, ended)
            }
            Stop::Terminated => (Error::Exiting, terminated(None)),
        };
        let _ = reply.send(Err(error));
        Err(ended)
    }

    async fn boot_or_stop(
        &mut self,
        plan: BootPlan,
        reply: &mut BootReply,
        slot: &mut Option<Live>,
    ) -> Result<(Guest, Booted), Stop> {
        let allowed = plan.deadline;
        let deadline = sleep_until(Instant::now() + allowed);
        tokio::pin!(deadline);
        let engine = self.engine.clone();
        let journal = self.journal.clone();
        let boot = Boot { engine: &*engine, journal: &journal, slot }.run(plan);
        tokio::pin!(boot);
        loop {
            tokio::select! {
                biased;
                command = self.next_command() => match command {
                    None => return Err(Stop::Terminated),
                    Some(Command::Boot(_, reply)) => {
                        let _ = reply.send(Err(Error::SecondBoot(State::Booting)));
                    }
                    Some(Command::Guest(reply)) => {
                        let _ = reply.send(Err(Error::NotRunning(State::Booting)));
                    }
                    Some(Command::Shutdown(within, reply)) => {
                        self.closers.add(within, reply);
                        return Err(Stop::Closed);
                    }
                },
                () = reply.closed() => {
                    return Err(Stop::Failed(boot::failure(&journal, BootCause::Cancelled)));
                }
                () = &mut deadline => {
                    let cause = BootCause::Deadline(allowed);
                    return Err(Stop::Failed(boot::failure(&journal, cause)));
                }
                result = &mut boot => return result.map_err(Stop::Failed),
            }
        }
    }

    /// Keeps the error for those who ask later, and gives it back for the caller.
    fn boot_failed(&self, error: Error) -> (Error, Ended) {
        let ended = Ended::new(EndReason::BootFailed, error.to_string(), None);
        self.journal.boot_failed(ErrorDetail::from(&error));
        (error, ended)
    }

    async fn running(&mut self, mut live: Live, guest: Guest) -> Ended {
        let over = loop {
            tokio::select! {
                biased;
                command = self.next_command() => match command {
                    None => break Over::Terminated,
                    Some(Command::Boot(_, reply)) => {
                        let _ = reply.send(Err(Error::SecondBoot(State::Running)));
                    }
                    Some(Command::Guest(reply)) => {
                        let _ = reply.send(Ok(guest.clone()));
                    }
                    Some(Command::Shutdown(within, reply)) => {
                        self.closers.add(within, reply);
                        break Over::Close;
                    }
                },
                exit = live.machine.wait() => break Over::Exited(exit),
                () = guest.lost().cancelled() => break Over::Lost,
            }
        };
        match over {
            Over::Exited(exit) => {
                live.drain_console().await;
                Ended::unasked(&exit, self.journal.console().shows_panic())
            }
            Over::Close => self.closing(live, guest).await,
            Over::Lost => self.lost(live).await,
            Over::Terminated => terminated(self.end_now(live).await.as_ref()),
        }
    }

    /// The control channel broke. Most often the machine is about to end, which says more; if it
    /// is not, nothing can be done with it any more.
    async fn lost(&mut self, mut live: Live) -> Ended {
        tokio::select! {
            exit = live.machine.wait() => {
                live.drain_console().await;
                return Ended::unasked(&exit, self.journal.console().shows_panic());
            }
            () = tokio::time::sleep(CHANNEL_LOST) => {}
            () = self.terminate.cancelled() => {}
        }
        let exit = self.end_now(live).await;
        let message = "The guest's control channel broke, and the VM was ended for it";
        Ended::new(EndReason::GuestStopped, message, exit.as_ref())
    }

    /// Asks the guest to end, and kills the engine when the deadline passes or the guest refuses.
    async fn closing(&mut self, mut live: Live, guest: Guest) -> Ended {
        self.journal.enter(State::Closing);
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
    async fn end_now(&self, mut live: Live) -> Option<Exit> {
        live.machine.kill();
        let exit = timeout(ENGINE_GONE, live.machine.wait()).await.ok();
        match &exit {
            Some(_) => live.drain_console().await,
            None => tracing::error!("the killed engine is still there"),
        }
        exit
    }

    /// Answers everybody who comes too late, until the client leaves.
    async fn exited(&mut self, ended: &Arc<Ended>) {
        while let Some(command) = self.next_command().await {
            match command {
                Command::Boot(_, reply) => {
                    let _ = reply.send(Err(Error::SecondBoot(State::Exited)));
                }
                Command::Guest(reply) => {
                    let _ = reply.send(Err(Error::Ended(ended.clone())));
                }
                Command::Shutdown(_, reply) => {
                    let _ = reply.send(ended.clone());
                }
            }
        }
    }

    /// The next command; `None` when this process is to end.
    async fn next_command(&mut self) -> Option<Command> {
        tokio::select! {
            biased;
            () = self.terminate.cancelled() => None,
            command = self.commands.recv() => command,
        }
    }
}

impl Closers {
    fn add(&mut self, within: Duration, reply: oneshot::Sender<Arc<Ended>>) {
        let deadline = Instant::now() + within;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        self.replies.push(reply);
    }
}

/// The end after Shutdown, when the engine ended by itself.
fn closed(exit: &Exit) -> Ended {
    match exit.reason {
        ExitReason::Failed => Ended::unasked(exit, false),
        _ => Ended::new(EndReason::Closed, "Closed", Some(exit)),
    }
}

fn terminated(exit: Option<&Exit>) -> Ended {
    Ended::new(EndReason::Killed, "The client left", exit)
}
