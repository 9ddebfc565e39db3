//! Problems of a mount, on their way into the journal: no more than a few each second, and a count
//! of the others.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::time::{Duration, Instant, sleep};
use vfs::Event;

use crate::lane::Journal;

/// Problems of one mount that are told in each window …
const TOLD: u32 = 16;
/// … of this length.
const WINDOW: Duration = Duration::from_secs(1);
/// Most of a sentence.
const SENTENCE_BYTES: usize = 1024;

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// A request was not answered in time.
    Deadline,
    /// A callback answered what cannot be.
    WrongAnswer,
    /// A limit refused something.
    Limit,
    /// The stream has ended.
    Detached,
    /// Changes cannot be followed.
    Watch,
}

/// A problem of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where the mount is in the guest.
    pub target: String,
    /// What kind of problem it is.
    pub problem: Problem,
    /// Within the mount; empty when there is none.
    pub path: String,
    /// One sentence.
    pub message: String,
}

/// Reports the problems of one mount.
pub(super) struct Reporter {
    target: String,
    journal: Arc<Journal>,
    runtime: Handle,
    window: Mutex<Window>,
    this: Weak<Self>,
}

struct Window {
    began: Instant,
    told: u32,
    left_out: u64,
}

impl Reporter {
    /// Called inside the runtime that the journal is written in.
    pub(super) fn new(target: &str, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            target: target.to_owned(),
            journal,
            runtime: Handle::current(),
            window: Mutex::new(Window { began: Instant::now(), told: 0, left_out: 0 }),
            this: this.clone(),
        })
    }

    /// A problem of vfs; what is no problem is passed over.
    pub(super) fn event(&self, event: Event) {
        match event {
            Event::Deadline { request, after } => {
                let message = format!("{request} was not answered within {} ms", after.as_millis());
                self.tell(Problem::Deadline, Vec::new(), message);
            }
            Event::WrongAnswer { callback, path, problem } => {
                self.tell(Problem::WrongAnswer, path, format!("{callback}: {problem}"));
            }
            Event::Limit { what, limit } => {
                let message = format!("There are {limit} {what} already, which is the limit");
                self.tell(Problem::Limit, Vec::new(), message);
            }
            Event::Watch { problem } => self.tell(Problem::Watch, Vec::new(), problem),
            Event::Changed { .. } => {}
        }
    }

    /// Tells, or counts.
    pub(super) fn tell(&self, problem: Problem, path: Vec<u8>, mut message: String) {
        let first_left_out = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            if window.began.elapsed() >= WINDOW {
                (window.began, window.told) = (Instant::now(), 0);
            }
            if window.told < TOLD {
                window.told += 1;
                None
            } else {
                window.left_out += 1;
                Some(window.left_out == 1)
            }
        };
        match first_left_out {
            None => {
                message.truncate(message.floor_char_boundary(SENTENCE_BYTES));
                let path = String::from_utf8_lossy(&path).into_owned();
                self.write(problem, path, message);
            }
            Some(false) => {}
            Some(true) => {
                let this = self.this.clone();
                self.runtime.spawn(async move {
                    sleep(WINDOW).await;
                    if let Some(reporter) = this.upgrade() {
                        reporter.tell_count(problem);
                    }
                });
            }
        }
    }

    fn tell_count(&self, problem: Problem) {
        let left_out = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut window.left_out)
        };
        let message = format!("{left_out} more problems of this mount were not told one by one");
        self.write(problem, String::new(), message);
    }

    fn write(&self, problem: Problem, path: String, message: String) {
        let report = Report { target: self.target.clone(), problem, path, message };
        tracing::warn!(?report, "problem of a mount");
        self.journal.mount_problem(report);
    }
}
