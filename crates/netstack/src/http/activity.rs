//! Whether a connection has requests under way, and since when not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Counts requests.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    busy: usize,
    since: Instant,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { busy: 0, since: Instant::now() })))
    }

    /// A request begins; it ends when what is returned is dropped.
    pub(super) fn begin(&self) -> Busy {
        self.change(|state| state.busy += 1);
        Busy(self.clone())
    }

    /// Ends once there has been no request for so long.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            let now = Instant::now();
            let end = self.change(|state| if state.busy > 0 { now } else { state.since }) + time;
            if end <= now {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.busy -= 1;
            state.since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_without_a_request() {
        let (activity, start) = (Activity::new(), Instant::now());
        let second = Duration::from_secs(1);
        let busy = activity.begin();
        tokio::spawn(async move {
            tokio::time::sleep(second * 25).await;
            drop(busy);
        });
        activity.idle(second * 10).await;
        assert!(start.elapsed() >= second * 35);
    }
}
