//! Files that are open and have no name any more.
//!
//! A path-based interface cannot reach them, so their content is taken before the last name goes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Body, Errno, Time};

/// An open file without a name.
pub(super) struct Orphan {
    state: Mutex<OrphanState>,
    /// The most it may grow to.
    limit: u64,
}

struct OrphanState {
    content: Vec<u8>,
    modified: Time,
}

impl Orphan {
    pub(super) fn new(content: Vec<u8>, limit: u64) -> Self {
        let modified = std::time::SystemTime::now().into();
        Self { state: Mutex::new(OrphanState { content, modified }), limit }
    }

    fn lock(&self) -> MutexGuard<'_, OrphanState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn size_and_time(&self) -> (u64, Time) {
        let state = self.lock();
        (state.content.len() as u64, state.modified)
    }

    pub(super) fn read(&self, offset: u64, body: &mut Body<'_>) {
        let state = self.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(state.content.len());
        body.push(&state.content[from..]);
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        let mut state = self.lock();
        if end > self.limit {
            return Err(Errno::ENOSPC);
        }
        let (from, to) = (to_usize(offset)?, to_usize(end)?);
        if state.content.len() < to {
            state.content.resize(to, 0);
        }
        state.content[from..to].copy_from_slice(bytes);
        state.modified = std::time::SystemTime::now().into();
        Ok(())
    }

    pub(super) fn truncate(&self, size: u64) -> Result<(), Errno> {
        if size > self.limit {
            return Err(Errno::ENOSPC);
        }
        let size = to_usize(size)?;
        let mut state = self.lock();
        state.content.resize(size, 0);
        state.modified = std::time::SystemTime::now().into();
        Ok(())
    }
}

fn to_usize(number: u64) -> Result<usize, Errno> {
    usize::try_from(number).map_err(|_| Errno::EFBIG)
}
