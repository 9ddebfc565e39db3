//! The calls of `Run` that `Resize` and `Wait` can name: those whose process, or whose answers, have
//! not ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nix::unistd::Pid;
use tokio::sync::watch;

use super::supervise::Ended;
use super::terminal::Terminal;
use crate::error::Error;

/// How a process ended, once it has.
pub(crate) type End = Option<Result<Ended, Error>>;

/// All of them, by process.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    all: Mutex<HashMap<Pid, Weak<Run>>>,
}

/// One of them; registered as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Run {
    pid: Pid,
    end: watch::Receiver<End>,
    terminal: Option<Terminal>,
    runs: Arc<Runs>,
}

impl Runs {
    /// Registers a run. The sender gets how it ended.
    pub(crate) fn register(
        self: &Arc<Self>,
        pid: Pid,
        terminal: Option<Terminal>,
    ) -> (Arc<Run>, watch::Sender<End>) {
        let (sender, end) = watch::channel(None);
        let run = Arc::new(Run { pid, end, terminal, runs: Arc::clone(self) });
        self.all().insert(pid, Arc::downgrade(&run));
        (run, sender)
    }

    /// The run of this process.
    pub(crate) fn find(&self, pid: u32) -> Option<Arc<Run>> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?);
        self.all().get(&pid).and_then(Weak::upgrade)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Pid, Weak<Run>>> {
        // Each change is one insertion or removal: a panic elsewhere leaves nothing half done.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// Its terminal, if it has one.
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Gets how it ended. Does not keep it registered.
    pub(crate) fn end(&self) -> watch::Receiver<End> {
        self.end.clone()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut all = self.runs.all();
        // The number may belong to a later process by now.
        if all.get(&self.pid).is_some_and(|run| run.strong_count() == 0) {
            all.remove(&self.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_found_as_long_as_it_is_held() {
        let runs = Arc::new(Runs::default());
        let (run, _end) = runs.register(Pid::from_raw(7), None);
        assert!(runs.find(7).is_some());
        assert!(runs.find(8).is_none() && runs.find(u32::MAX).is_none());
        drop(run);
        assert!(runs.find(7).is_none());
        assert!(runs.all().is_empty());
    }

    #[test]
    fn end_of_a_run_does_not_hide_a_later_process_with_its_number() {
        let runs = Arc::new(Runs::default());
        let (old, _end) = runs.register(Pid::from_raw(7), None);
        let (new, _end) = runs.register(Pid::from_raw(7), None);
        drop(old);
        assert!(Arc::ptr_eq(&runs.find(7).unwrap(), &new));
    }
}
