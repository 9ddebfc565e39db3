//! The children that somebody waits for, and the reaper.
//!
//! A child is registered in the same turn of the one thread that started it, before the reaper can
//! run: no exit is lost. Orphans that PID 1 inherits are reaped and forgotten.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::sys::wait::{Exit, Which, reap};

/// Children that have not been reaped, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Children {
    waiting: Mutex<HashMap<Pid, Child>>,
}

#[derive(Debug)]
struct Child {
    exit: oneshot::Sender<Exit>,
    kind: Kind,
}

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A process of the lane, leader of its own group.
    Process,
    /// A copy of PID 1 that does what PID 1 must not wait for.
    Helper,
}

impl Children {
    /// Registers a child that has just been started; the receiver gets its end.
    pub(crate) fn register(&self, pid: Pid, kind: Kind) -> oneshot::Receiver<Exit> {
        let (exit, receiver) = oneshot::channel();
        self.waiting().insert(pid, Child { exit, kind });
        receiver
    }

    /// Whether this is a process of the lane that has not been reaped. While it is, its number (and
    /// that of its group) cannot belong to anybody else.
    pub(crate) fn is_process(&self, pid: Pid) -> bool {
        self.waiting().get(&pid).is_some_and(|child| child.kind == Kind::Process)
    }

    /// Reaps everything that has ended, now.
    pub(crate) fn reap(&self) {
        #[cfg(not(test))]
        while let Some((pid, exit)) = reap(Which::Any) {
            self.ended(pid, exit);
        }
        // A test process has children of other tests, too.
        #[cfg(test)]
        {
            let known: Vec<Pid> = self.waiting().keys().copied().collect();
            for (pid, exit) in known.into_iter().filter_map(|pid| reap(Which::One(pid))) {
                self.ended(pid, exit);
            }
        }
    }

    fn ended(&self, pid: Pid, exit: Exit) {
        if let Some(child) = self.waiting().remove(&pid) {
            // Nobody has to be waiting any more.
            let _ = child.exit.send(exit);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Pid, Child>> {
        // Each change is one insertion or removal: a panic elsewhere leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reaps whenever a child ends; never returns but with an error of the first line.
pub(crate) async fn reaper(children: &Children) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        children.reap();
        if ended.recv().await.is_none() {
            return Ok(());
        }
    }
}
