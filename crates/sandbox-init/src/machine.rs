//! Where the machine is in its life, and what its parts share.
//!
//! ```text
//! Fresh ── Configure ──► Configuring ──► Ready(lane) ── Shutdown ──► Closing ──► reset
//!                             └─ a step failed ─► Broken ─────────────────┘
//! ```

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use crate::boot::cgroup::Workload;
use crate::channel::Written;
use crate::error::Error;
use crate::filesystems::Filesystems;
use crate::limits::{MAX_FILE_CALLS, MAX_RUNS};
use crate::process::children::Children;
use crate::process::runs::Runs;
use crate::process::terminal::Terminals;

/// Variables by name. Neither holds a NUL, no name is empty or holds "=".
pub(crate) type Environment = BTreeMap<CString, CString>;

/// What every process of the lane starts with.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Working directory of processes that name none.
    pub(crate) cwd: CString,
    /// PATH and the variables of `Configure`.
    pub(crate) env: Environment,
    /// Where processes live; `None` only in tests that run without a cgroup hierarchy.
    pub(crate) workload: Option<Workload>,
    /// Where terminals are made; `None` only in tests that need none.
    pub(crate) terminals: Option<Terminals>,
}

/// See the module.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Fresh,
    Configuring,
    Ready(Arc<Lane>),
    Broken,
    Closing,
}

/// The one machine.
#[derive(Debug)]
pub(crate) struct Machine {
    phase: Mutex<Phase>,
    /// The children of PID 1 that somebody waits for.
    pub(crate) children: Arc<Children>,
    /// The calls of `Run` that can be named.
    pub(crate) named: Arc<Runs>,
    /// One permit for each `Run`.
    pub(crate) runs: Arc<Semaphore>,
    /// One permit for each call of `FileService`.
    pub(crate) file_calls: Arc<Semaphore>,
    /// What has left for the host.
    pub(crate) written: Written,
    /// What the host serves and is mounted.
    pub(crate) filesystems: Filesystems,
    /// One permit: changes are announced by one helper at a time.
    pub(crate) announcing: Arc<Semaphore>,
    /// The answer to `Shutdown` is on its way: reset.
    pub(crate) finished: Notify,
}

impl Machine {
    /// A machine that has just booted.
    pub(crate) fn new(written: Written) -> Self {
        Self {
            phase: Mutex::default(),
            children: Arc::default(),
            named: Arc::default(),
            runs: Arc::new(Semaphore::new(MAX_RUNS)),
            file_calls: Arc::new(Semaphore::new(MAX_FILE_CALLS)),
            written,
            filesystems: Filesystems::default(),
            announcing: Arc::new(Semaphore::new(1)),
            finished: Notify::new(),
        }
    }

    /// Claims the one `Configure`.
    pub(crate) fn begin_configure(&self) -> Result<(), Error> {
        let mut phase = self.phase();
        match *phase {
            Phase::Fresh => {
                *phase = Phase::Configuring;
                Ok(())
            }
            Phase::Closing => Err(Error::ShuttingDown),
            _ => Err(Error::AlreadyConfigured),
        }
    }

    /// Ends `Configure`: with a lane processes can run. A shutdown that came in between stays.
    pub(crate) fn end_configure(&self, lane: Option<Lane>) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Configuring) {
            *phase = lane.map_or(Phase::Broken, |lane| Phase::Ready(Arc::new(lane)));
        }
    }

    /// Claims the one `Shutdown`; from here on nothing is started.
    pub(crate) fn begin_shutdown(&self) -> Result<(), Error> {
        match std::mem::replace(&mut *self.phase(), Phase::Closing) {
            Phase::Closing => Err(Error::ShuttingDown),
            _ => Ok(()),
        }
    }

    /// The lane, when processes can run.
    pub(crate) fn lane(&self) -> Result<Arc<Lane>, Error> {
        match &*self.phase() {
            Phase::Ready(lane) => Ok(Arc::clone(lane)),
            Phase::Closing => Err(Error::ShuttingDown),
            _ => Err(Error::NotConfigured),
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        // Each change is one assignment: a panic elsewhere leaves nothing half done.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane { cwd: c"/".into(), env: Environment::new(), workload: None, terminals: None }
    }

    #[test]
    fn processes_run_only_between_configure_and_shutdown() {
        let machine = Machine::new(Written::default());
        assert!(matches!(machine.lane(), Err(Error::NotConfigured)));
        machine.begin_configure().unwrap();
        assert!(matches!(machine.lane(), Err(Error::NotConfigured)));
        machine.end_configure(Some(lane()));
        assert!(machine.lane().is_ok());
        assert!(matches!(machine.begin_configure(), Err(Error::AlreadyConfigured)));
        machine.begin_shutdown().unwrap();
        assert!(matches!(machine.lane(), Err(Error::ShuttingDown)));
        assert!(matches!(machine.begin_shutdown(), Err(Error::ShuttingDown)));
    }

    #[test]
    fn shutdown_during_configure_is_not_undone_by_its_end() {
        let machine = Machine::new(Written::default());
        machine.begin_configure().unwrap();
        machine.begin_shutdown().unwrap();
        machine.end_configure(Some(lane()));
        assert!(matches!(machine.lane(), Err(Error::ShuttingDown)));
    }

    #[test]
    fn failed_configure_cannot_be_tried_again() {
        let machine = Machine::new(Written::default());
        machine.begin_configure().unwrap();
        machine.end_configure(None);
        assert!(matches!(machine.begin_configure(), Err(Error::AlreadyConfigured)));
        assert!(matches!(machine.lane(), Err(Error::NotConfigured)));
    }
}
