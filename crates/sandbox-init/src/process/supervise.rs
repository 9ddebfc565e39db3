//! The life of one process, in a task that does not depend on anybody reading its output.
//!
//! ```text
//! running ── exit ─────────────────────────────────────────────────► reported
//!    └─ timeout, call dropped, broken request ─► SIGTERM to the group
//!                                                   ├─ exit ─► reported
//!                                                   └─ 1 s ──► SIGKILL to the group ─► reported
//! ```
//! The group gets its second even when its leader has exited before.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{SIGKILL, SIGTERM};
use nix::unistd::Pid;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::input::Input;
use super::runs::{End, Run};
use crate::error::Error;
use crate::limits::{GRACE, KILL_DEADLINE, MAX_OUTPUT_MESSAGE, MAX_RUNS, OUTPUT_BUDGET};
use crate::sys::signal::{Target, send};
use crate::sys::wait::Exit;

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// What it told.
    pub(crate) exit: Exit,
    /// It ran longer than it might.
    pub(crate) timed_out: bool,
}

/// What the call of a process holds: dropping it says that nobody wants the process any more.
#[derive(Debug)]
pub(crate) struct Call {
    open: oneshot::Sender<()>,
    permit: Permit,
    _run: Arc<Run>,
}

/// One of the [`MAX_RUNS`], until the call and its process have ended.
#[derive(Clone, Debug)]
pub(crate) struct Permit {
    all: Arc<Semaphore>,
    _one: Arc<OwnedSemaphorePermit>,
}

impl Permit {
    /// Takes one, if one is left.
    pub(crate) fn take(all: &Arc<Semaphore>) -> Result<Self, Error> {
        let one = Arc::clone(all).try_acquire_owned().map_err(|_| Error::TooManyProcesses)?;
        Ok(Self { all: Arc::clone(all), _one: Arc::new(one) })
    }
}

impl Call {
    /// The call never came to be, and the child ends by itself: nothing is to be terminated.
    pub(crate) fn settle(self) {
        // The supervisor may have seen the exit already.
        let _ = self.open.send(());
    }

    /// Bytes that this call may hold for the host.
    pub(crate) fn output_share(&self) -> usize {
        let open = MAX_RUNS.saturating_sub(self.permit.all.available_permits()).max(1);
        (OUTPUT_BUDGET / open).min(MAX_OUTPUT_MESSAGE)
    }
}

/// The task's side.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
    report: Option<oneshot::Sender<Result<Ended, Error>>>,
    open: oneshot::Receiver<()>,
    run: Arc<Run>,
    end: watch::Sender<End>,
    _permit: Permit,
}

/// Why a process is terminated.
enum Cause {
    Timeout,
    Abandoned,
    BrokenRequest(Error),
}

/// Makes the two sides; the receiver gets the end of the process.
pub(crate) fn supervisor(
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
    permit: Permit,
    (run, end): (Arc<Run>, watch::Sender<End>),
) -> (Supervisor, Call, oneshot::Receiver<Result<Ended, Error>>) {
    let (report, ended) = oneshot::channel();
    let (open, dropped) = oneshot::channel();
    let call = Call { open, permit: permit.clone(), _run: Arc::clone(&run) };
    let report = Some(report);
    (Supervisor { pid, exit, report, open: dropped, run, end, _permit: permit }, call, ended)
}

impl Supervisor {
    /// Runs until the process has ended and, if it was terminated, its group too.
    pub(crate) async fn run(mut self, input: Option<Input>, limit: Option<Duration>) {
        let cause = {
            let mut input = pin!(async {
                match input {
                    Some(input) => input.run().await,
                    None => Ok(()),
                }
            });
            let mut expired = pin!(async {
                match limit {
                    Some(limit) => sleep(limit).await,
                    None => pending().await,
                }
            });
            let (mut reading, mut settled) = (true, false);
            loop {
                tokio::select! {
                    biased;
                    exit = &mut self.exit => return self.tell(ended(exit, false)),
                    dropped = &mut self.open, if !settled => match dropped {
                        Ok(()) => settled = true,
                        Err(_) => break Cause::Abandoned,
                    },
                    () = &mut expired => break Cause::Timeout,
                    result = &mut input, if reading => match result {
                        Ok(()) => reading = false,
                        Err(error) => break Cause::BrokenRequest(error),
                    },
                }
            }
        };
        let timed_out = matches!(cause, Cause::Timeout);
        if let Cause::BrokenRequest(error) = cause {
            self.tell(Err(error));
        }
        self.terminate(timed_out).await;
    }

    /// See the picture of the module.
    async fn terminate(&mut self, timed_out: bool) {
        // Shells ignore SIGTERM and end, with their jobs, when their terminal does.
        if let Some(terminal) = self.run.terminal() {
            terminal.hang_up();
        }
        self.signal(SIGTERM);
        let mut grace = pin!(sleep(GRACE));
        tokio::select! {
            exit = &mut self.exit => {
                self.tell(ended(exit, timed_out));
                if send(Target::Group(self.pid), 0).is_ok() {
                    grace.await;
                    self.kill_orphans();
                }
                return;
            }
            () = &mut grace => {}
        }
        self.signal(SIGKILL);
        match timeout(KILL_DEADLINE, &mut self.exit).await {
            Ok(exit) => self.tell(ended(exit, timed_out)),
            Err(_) => {
                self.tell(Err(Error::Unkillable { pid: self.pid.as_raw() }));
                // It still counts as running; the reaper knows when it is gone.
                let _ = (&mut self.exit).await;
            }
        }
    }

    /// To the group; to the process alone while it has not made its group yet. It has not been
    /// reaped, so the numbers are its own.
    fn signal(&self, number: i32) {
        if send(Target::Group(self.pid), number) == Err(Errno::ESRCH) {
            // A process that has ended and is not reaped yet needs no signal.
            let _ = send(Target::Process(self.pid), number);
        }
    }

    /// SIGKILL to what is left of a group whose leader has been reaped. If a process has the number
    /// again, the group was empty in between and is somebody else's now.
    fn kill_orphans(&self) {
        if send(Target::Process(self.pid), 0) == Err(Errno::ESRCH) {
            let _ = send(Target::Group(self.pid), SIGKILL);
        }
    }

    /// Only the first time: what came first is what ended the call.
    fn tell(&mut self, result: Result<Ended, Error>) {
        if let Some(report) = self.report.take() {
            self.end.send_replace(Some(result.clone()));
            // The call may be gone.
            let _ = report.send(result);
        }
    }
}

/// The reaper keeps every child's exit; losing one would be a defect.
fn ended(exit: Result<Exit, RecvError>, timed_out: bool) -> Result<Ended, Error> {
    exit.map(|exit| Ended { exit, timed_out }).map_err(|_| Error::Defect)
}
