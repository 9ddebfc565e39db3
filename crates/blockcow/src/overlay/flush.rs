//! Flushing, and waiting for the write-back.

use super::dirty::Flight;
use super::{Overlay, State, StoreCall};
use crate::error::WriteError;
use crate::store::StoreError;

/// Blocks on their way by a flush; queued again when that is given up.
struct Bringing<'a> {
    overlay: &'a Overlay,
    flights: Vec<Flight>,
}

impl Drop for Bringing<'_> {
    fn drop(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let mut state = self.overlay.state();
        self.flights.iter().for_each(|flight| state.dirty.failed(flight));
        drop(state);
        self.overlay.wake.notify_one();
        self.overlay.progress.notify_waiters();
    }
}

impl Overlay {
    /// Makes durable what was acknowledged before.
    pub(crate) async fn flush(&self) -> Result<(), WriteError> {
        let (version, failures) = {
            let mut state = self.state();
            let version = state.dirty.clock();
            state.demand = state.demand.max(version);
            (version, state.failures)
        };
        if self.state().flushed >= version {
            return Ok(());
        }
        let brings = self.store.forgets_dropped();
        let mut turn = None;
        if brings {
            turn = Some(self.flushing.lock().await);
            self.state().resting = None;
            self.bring().await;
        } else {
            self.urge();
        }
        self.when(|state| {
            if state.dirty.oldest().is_none_or(|oldest| oldest > version) {
                return Some(Ok(()));
            }
            if state.closed {
                return Some(Err(WriteError::Closed));
            }
            let error = || state.failure.clone().unwrap_or(StoreError::Broken);
            (state.failures != failures).then(|| Err(WriteError::Store(error())))
        })
        .await?;
        let _turn = match turn {
            Some(turn) => turn,
            None => self.flushing.lock().await,
        };
        let covered = {
            let state = self.state();
            if state.flushed >= version {
                // Another flush, which began when everything was in the store, has done it.
                return Ok(());
            }
            state.dirty.oldest().map_or_else(|| state.dirty.clock(), |oldest| oldest - 1)
        };
        let work = self.store.flush(&self.context);
        self.call(StoreCall::Flush, work).await.map_err(WriteError::Store)?;
        let mut state = self.state();
        state.flushed = state.flushed.max(covered);
        Ok(())
    }

    /// Flushes, and refuses every change from then on.
    pub(crate) async fn close(&self) -> Result<(), WriteError> {
        let flushed = self.flush().await;
        self.state().closed = true;
        self.wake.notify_one();
        self.progress.notify_waiters();
        flushed
    }

    /// Brings to the store what is wanted there, without the write-back task: a flush that waits for
    /// another thread takes twice as long.
    async fn bring(&self) {
        while let Some(flights) = self.take_batch() {
            let mut bringing = Bringing { overlay: self, flights };
            let result = self.send(&bringing.flights).await;
            self.arrived(&std::mem::take(&mut bringing.flights), result);
        }
    }

    /// Sets the write-back going, also after a failure. How many failures there were before.
    pub(super) fn urge(&self) -> u64 {
        let failures = {
            let mut state = self.state();
            state.resting = None;
            state.failures
        };
        self.wake.notify_one();
        failures
    }

    /// Waits until the state gives an answer.
    pub(super) async fn when<T>(&self, mut answer: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if let Some(answer) = answer(&self.state()) {
                return answer;
            }
            progress.await;
        }
    }
}
