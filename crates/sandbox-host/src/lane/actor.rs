//! The task that owns the VM. Each state is a function that serves commands until it is over and
//! returns what comes next; see the picture in the module above.

use std::sync::Arc;

use engine::Exit;
use protocol::ErrorDetail;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::boot::{self, Boot, Live};
use super::end::{EndReason, Ended};
use super::ending::{Closers, terminated};
use super::handle::{Booted, Command};
use super::journal::{Journal, State};
use super::streams::Streams;
use crate::error::{BootCause, Error};
use crate::granted::Granted;
use crate::guest::Guest;
use crate::request::BootPlan;

type BootReply = oneshot::Sender<Result<Booted, Error>>;

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
    pub(super) journal: Arc<Journal>,
    engine: Arc<dyn Engine>,
    streams: Arc<Streams>,
    granted: Arc<Granted>,
    terminate: CancellationToken,
    pub(super) closers: Closers,
}

impl Actor {
    pub(super) fn new(
        commands: mpsc::Receiver<Command>,
        (journal, streams, granted): (Arc<Journal>, Arc<Streams>, Arc<Granted>),
        engine: Arc<dyn Engine>,
        terminate: CancellationToken,
    ) -> Self {
        let closers = Closers::default();
        Self { commands, journal, engine, streams, granted, terminate, closers }
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
        self.streams.end();
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
                Command::Network(reply) => {
                    let _ = reply.send(Err(Error::NotRunning(State::Idle)));
                }
                Command::Measure(reply) => {
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
        let streams = self.streams.clone();
        let granted = self.granted.clone();
        let boot = Boot {
            engine: &*engine,
            journal: &journal,
            streams: &streams,
            granted: &granted,
            slot,
        }
        .run(plan);
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
                    Some(Command::Network(reply)) => {
                        let _ = reply.send(Err(Error::NotRunning(State::Booting)));
                    }
                    Some(Command::Measure(reply)) => {
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
        // It outlives the machine, so that what is left in it is told before the end.
        let network = live.network.take();
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
                    Some(Command::Network(reply)) => {
                        let control = network.as_ref().map(|network| network.control().clone());
                        let _ = reply.send(control.ok_or(Error::NoNetwork));
                    }
                    Some(Command::Measure(reply)) => {
                        let _ = reply.send(Ok(live.measure(network.as_ref(), &guest)));
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
        if let (Over::Close | Over::Terminated, Some(network)) = (&over, &network) {
            network.hurry();
        }
        let ended = match over {
            Over::Exited(exit) => {
                live.drain_console().await;
                Ended::unasked(&exit, self.journal.console().shows_panic())
            }
            Over::Close => self.closing(live, guest).await,
            Over::Lost => self.lost(live).await,
            Over::Terminated => terminated(self.end_now(live).await.as_ref()),
        };
        if let Some(network) = network {
            network.end().await;
        }
        ended
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
                Command::Network(reply) => {
                    let _ = reply.send(Err(Error::Ended(ended.clone())));
                }
                Command::Measure(reply) => {
                    let _ = reply.send(Err(Error::Ended(ended.clone())));
                }
                Command::Shutdown(_, reply) => {
                    let _ = reply.send(ended.clone());
                }
            }
        }
    }

    /// The next command; `None` when this process is to end.
    pub(super) async fn next_command(&mut self) -> Option<Command> {
        tokio::select! {
            biased;
            () = self.terminate.cancelled() => None,
            command = self.commands.recv() => command,
        }
    }
}
