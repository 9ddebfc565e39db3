//! What the threads of a machine tell each other: whether processors may run, and how it ended.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::pthread::Pthread;
use tokio::sync::watch;

use crate::sys::vcpu;

const RUN: u8 = 0;
const PAUSE: u8 = 1;
const STOP: u8 = 2;

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The guest reset it.
    Reset,
    /// It was told to end.
    Killed,
    /// Something failed, in words.
    Failed(String),
}

/// One for each machine.
pub(super) struct Control {
    cpus: usize,
    order: AtomicU8,
    state: Mutex<State>,
    changed: Condvar,
    /// How many processors do not run: they rest, or have left.
    still: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// Of processors that have not been joined.
    threads: Vec<Pthread>,
    left: usize,
    end: Option<End>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("order", &self.order).finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(cpus: usize) -> Self {
        Self {
            cpus,
            order: AtomicU8::new(RUN),
            state: Mutex::default(),
            changed: Condvar::new(),
            still: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a processor is to do something else than to run.
    pub(super) fn is_interrupted(&self) -> bool {
        self.order.load(Ordering::SeqCst) != RUN
    }

    /// Called by a processor before it runs. Waits while the machine is paused. False when it is
    /// to leave.
    pub(super) fn may_run(&self) -> bool {
        match self.order.load(Ordering::SeqCst) {
            RUN => true,
            PAUSE => self.rest(),
            _ => false,
        }
    }

    fn rest(&self) -> bool {
        let mut state = self.state();
        self.still.send_modify(|still| *still += 1);
        while self.order.load(Ordering::SeqCst) == PAUSE {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.still.send_modify(|still| *still -= 1);
        self.order.load(Ordering::SeqCst) == RUN
    }

    /// A processor's thread is there.
    pub(super) fn enter(&self, thread: Pthread) {
        self.state().threads.push(thread);
    }

    /// A processor will not run any more.
    pub(super) fn leave(&self) {
        self.still.send_modify(|still| *still += 1);
        self.state().left += 1;
        self.changed.notify_all();
    }

    /// Ends the machine; the first reason counts.
    pub(super) fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        self.give_order(STOP, &state);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.order.load(Ordering::SeqCst) == STOP
    }

    /// Stops processors, or lets them go on; nothing when the machine has ended.
    pub(super) fn set_paused(&self, paused: bool) {
        let state = self.state();
        if state.end.is_none() {
            self.give_order(if paused { PAUSE } else { RUN }, &state);
        }
    }

    fn give_order(&self, order: u8, state: &State) {
        self.order.store(order, Ordering::SeqCst);
        self.changed.notify_all();
        if order != RUN {
            state.threads.iter().for_each(|thread| vcpu::interrupt(*thread));
        }
    }

    /// Waits until no processor runs.
    pub(super) async fn all_still(&self) {
        // The sender lives as long as this.
        let _ = self.still.subscribe().wait_for(|still| *still >= self.cpus).await;
    }

    /// Waits until the machine has been ended and `processors` have left, calling `look` each
    /// second. After it no thread is interrupted any more.
    pub(super) fn all_left(&self, processors: usize, mut look: impl FnMut()) -> End {
        const LOOK: Duration = Duration::from_secs(1);
        let mut state = self.state();
        loop {
            if state.left >= processors
                && let Some(end) = state.end.clone()
            {
                state.threads.clear();
                return end;
            }
            let (locked, waited) =
                self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
            state = locked;
            if waited.timed_out() {
                drop(state);
                look();
                state = self.state();
            }
        }
    }
}
