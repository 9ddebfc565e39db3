//! What has happened to the VM, for everybody who asks or watches.
//!
//! The lane writes; readers hold a position. Console output and events are kept in rings, so a
//! reader that is slow loses the oldest and is told how many; the state, the step and the end are
//! kept for good. A reader never holds anybody back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use protocol::ErrorDetail;
use protocol::v1::NetworkEvent;
use tokio::sync::watch;

use super::end::Ended;
use crate::console::{Console, Piece};
use crate::disk::StoreReport;
use crate::limits::{CONSOLE_TAIL, EVENTS_KEPT};
use crate::mount::Report;

/// Where the VM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No Boot has come yet.
    Idle,
    /// Boot is under way.
    Booting,
    /// Processes can run.
    Running,
    /// Shutdown is under way.
    Closing,
    /// The engine is gone.
    Exited,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "not booted",
            Self::Booting => "booting",
            Self::Running => "running",
            Self::Closing => "being closed",
            Self::Exited => "gone",
        })
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The state is another one.
    State(State),
    /// A boot step has begun.
    Step(String),
    /// The owner should know, and nothing ends for it.
    Warning(String),
    /// Something went wrong at a mount.
    Mount(Report),
    /// The root's store fails, or works again.
    Store(StoreReport),
    /// Something happened in the network.
    Network(NetworkEvent),
}

/// What a watcher sees.
#[derive(Debug, PartialEq, Eq)]
pub enum Observation {
    /// An event.
    Event(Event),
    /// Console output.
    Console(Piece),
    /// The end; nothing follows.
    Ended(Arc<Ended>),
}

/// Everything that can be asked at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// The state.
    pub state: State,
    /// The boot step that began last, or empty.
    pub step: String,
    /// Processes that run.
    pub processes: u32,
    /// The last lines of the console.
    pub console_tail: String,
    /// Why Boot failed.
    pub boot_error: Option<ErrorDetail>,
}

/// The record of one VM.
#[derive(Debug)]
pub struct Journal {
    console: Console,
    record: Mutex<Record>,
    written: watch::Sender<u64>,
    processes: Arc<AtomicU32>,
}

#[derive(Debug)]
struct Record {
    state: State,
    step: String,
    events: VecDeque<(SystemTime, Event)>,
    /// Number of events since the beginning.
    count: u64,
    boot_error: Option<ErrorDetail>,
    ended: Option<(SystemTime, Arc<Ended>)>,
}

impl Default for Journal {
    fn default() -> Self {
        let record = Record {
            state: State::Idle,
            step: String::new(),
            events: VecDeque::new(),
            count: 0,
            boot_error: None,
            ended: None,
        };
        Self {
            console: Console::default(),
            record: Mutex::new(record),
            written: watch::Sender::new(0),
            processes: Arc::default(),
        }
    }
}

impl Journal {
    /// The guest's console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Everything at this moment.
    pub fn status(&self) -> Status {
        let record = self.lock();
        Status {
            state: record.state,
            step: record.step.clone(),
            processes: self.processes.load(Ordering::Relaxed),
            console_tail: self.console.tail(CONSOLE_TAIL),
            boot_error: record.boot_error.clone(),
        }
    }

    /// The state at this moment.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// The end, once it has come.
    pub fn ended(&self) -> Option<Arc<Ended>> {
        self.lock().ended.as_ref().map(|(_, ended)| ended.clone())
    }

    /// Waits for the end.
    pub async fn wait_ended(&self) -> Arc<Ended> {
        let mut written = self.written.subscribe();
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            if written.changed().await.is_err() {
                // The sender is a field of self.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Counts one more process until the guard is dropped.
    pub fn count_process(&self) -> ProcessCounted {
        self.processes.fetch_add(1, Ordering::Relaxed);
        ProcessCounted(self.processes.clone())
    }

    /// A watcher that begins with what is kept of the console and with the current state.
    pub fn watch(self: &Arc<Self>) -> Watcher {
        let record = self.lock();
        let mut first = VecDeque::from([Event::State(record.state)]);
        if !record.step.is_empty() && record.state == State::Booting {
            first.push_back(Event::Step(record.step.clone()));
        }
        Watcher {
            journal: self.clone(),
            written: self.written.subscribe(),
            printed: self.console.subscribe(),
            catch_up: self.console.subscribe().borrow().to_owned(),
            first,
            event: record.count,
            console: 0,
            done: false,
        }
    }

    /// Moves the state forward.
    pub(super) fn enter(&self, state: State) {
        self.write(|record| {
            debug_assert!(record.state <= state, "states only move forward");
            record.state = state;
            Some(Event::State(state))
        });
    }

    /// Begins a boot step.
    pub(super) fn step(&self, name: &str) {
        self.write(|record| {
            name.clone_into(&mut record.step);
            Some(Event::Step(name.to_owned()))
        });
    }

    /// Tells the owner something.
    pub(crate) fn warn(&self, message: String) {
        tracing::warn!(message, "warning for the owner");
        self.write(|_| Some(Event::Warning(message)));
    }

    /// Tells the owner of a mount's problem.
    pub(crate) fn mount_problem(&self, report: Report) {
        self.write(|_| Some(Event::Mount(report)));
    }

    /// Tells the owner how the root's store does.
    pub(crate) fn store_event(&self, report: StoreReport) {
        tracing::warn!(?report, "the root's store");
        self.write(|_| Some(Event::Store(report)));
    }

    /// Tells the owner what happened in the network.
    pub(crate) fn network_event(&self, event: NetworkEvent) {
        self.write(|_| Some(Event::Network(event)));
    }

    /// Keeps why the boot failed.
    pub(super) fn boot_failed(&self, error: ErrorDetail) {
        self.write(|record| {
            record.boot_error = Some(error);
            None
        });
    }

    /// The end. Completes every watcher.
    pub(super) fn end(&self, mut ended: Ended) -> Arc<Ended> {
        ended.console_tail = self.console.tail(CONSOLE_TAIL);
        let ended = Arc::new(ended);
        self.write(|record| {
            record.state = State::Exited;
            record.ended = Some((SystemTime::now(), ended.clone()));
            Some(Event::State(State::Exited))
        });
        ended
    }

    fn write(&self, change: impl FnOnce(&mut Record) -> Option<Event>) {
        {
            let mut record = self.lock();
            if let Some(event) = change(&mut record) {
                if record.events.len() == EVENTS_KEPT {
                    record.events.pop_front();
                }
                record.events.push_back((SystemTime::now(), event));
                record.count += 1;
            }
        }
        self.written.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a process as running as long as it lives.
#[derive(Debug)]
pub struct ProcessCounted(Arc<AtomicU32>);

impl Drop for ProcessCounted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reader of the journal.
#[derive(Debug)]
pub struct Watcher {
    journal: Arc<Journal>,
    written: watch::Receiver<u64>,
    printed: watch::Receiver<u64>,
    /// Where the console stood when the watcher joined: up to there it comes first.
    catch_up: u64,
    first: VecDeque<Event>,
    event: u64,
    console: u64,
    done: bool,
}

impl Watcher {
    /// The next observation and when it was made; `None` after the end.
    pub async fn next(&mut self) -> Option<(SystemTime, Observation)> {
        if self.done {
            return None;
        }
        loop {
            self.written.borrow_and_update();
            self.printed.borrow_and_update();
            if let Some(found) = self.ready() {
                return Some(found);
            }
            // Both senders live in the journal, which this watcher holds.
            let _ = tokio::select! {
                changed = self.written.changed() => changed,
                changed = self.printed.changed() => changed,
            };
        }
    }

    fn ready(&mut self) -> Option<(SystemTime, Observation)> {
        let now = SystemTime::now();
        if self.console < self.catch_up
            && let Some(piece) = self.piece()
        {
            return Some((now, piece));
        }
        if let Some(event) = self.first.pop_front() {
            return Some((now, Observation::Event(event)));
        }
        if let Some((time, event)) = self.next_event() {
            return Some((time, Observation::Event(event)));
        }
        if let Some(piece) = self.piece() {
            return Some((now, piece));
        }
        let (time, ended) = self.journal.lock().ended.clone()?;
        self.done = true;
        Some((time, Observation::Ended(ended)))
    }

    fn piece(&mut self) -> Option<Observation> {
        let piece = self.journal.console.after(self.console)?;
        self.console = piece.end;
        Some(Observation::Console(piece))
    }

    fn next_event(&mut self) -> Option<(SystemTime, Event)> {
        let record = self.journal.lock();
        let oldest = record.count - record.events.len() as u64;
        if self.event < oldest {
            let lost = oldest - self.event;
            self.event = oldest;
            let message = format!("This watcher was too slow for {lost} events");
            return Some((SystemTime::now(), Event::Warning(message)));
        }
        let index = usize::try_from(self.event - oldest).expect("at most EVENTS_KEPT");
        let found = record.events.get(index).cloned()?;
        self.event += 1;
        Some(found)
    }
}

#[cfg(test)]
mod tests;
