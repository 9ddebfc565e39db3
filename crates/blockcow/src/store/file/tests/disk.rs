//! A disk in memory that remembers what was written, and that can be full or broken.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use crate::store::file::io::StoreFile;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Write { offset: usize, bytes: Vec<u8> },
    SetLength(usize),
    Punch { offset: usize, length: usize },
    Sync,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) bytes: Vec<u8>,
    pub(super) log: Vec<Operation>,
    /// The file cannot become longer than this, or, amid a write, gets that far.
    pub(super) room: Option<usize>,
    pub(super) failing_syncs: usize,
    pub(super) failing_writes: usize,
}

/// Handles of one disk share it.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeDisk(Arc<Mutex<State>>);

impl FakeDisk {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// Does to a file what one of its operations did.
pub(super) fn apply(bytes: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write { offset, bytes: new } => {
            let end = offset + new.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(new);
        }
        Operation::SetLength(length) => bytes.resize(*length, 0),
        Operation::Punch { offset, length } => {
            let end = (offset + length).min(bytes.len());
            if let Some(hole) = bytes.get_mut(*offset..end) {
                hole.fill(0);
            }
        }
        Operation::Sync => {}
    }
}

impl State {
    fn record(&mut self, operation: Operation) {
        apply(&mut self.bytes, &operation);
        self.log.push(operation);
    }
}

impl StoreFile for FakeDisk {
    fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state();
        let part = state.bytes.get(offset as usize..).unwrap_or(&[]);
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        Ok(())
    }

    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> bool {
        self.read_at_most(buffer, offset).is_ok()
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let offset = offset as usize;
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            let half = bytes[..bytes.len() / 2].to_vec();
            state.record(Operation::Write { offset, bytes: half });
            return Err(Errno::IO.into());
        }
        let room = state.room.unwrap_or(usize::MAX).max(state.bytes.len());
        let fits = room.saturating_sub(offset).min(bytes.len());
        state.record(Operation::Write { offset, bytes: bytes[..fits].to_vec() });
        if fits == bytes.len() { Ok(()) } else { Err(Errno::NOSPC.into()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.failing_syncs > 0 {
            state.failing_syncs -= 1;
            return Err(Errno::IO.into());
        }
        state.record(Operation::Sync);
        Ok(())
    }

    fn size(&self) -> io::Result<(u64, u64)> {
        let length = self.state().bytes.len() as u64;
        Ok((length, length))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.state().record(Operation::SetLength(length as usize));
        Ok(())
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let end = (offset + length) as usize;
        if end > state.room.unwrap_or(usize::MAX).max(state.bytes.len()) {
            return Err(Errno::NOSPC.into());
        }
        let length = state.bytes.len().max(end);
        state.record(Operation::SetLength(length));
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let (offset, length) = (offset as usize, length as usize);
        self.state().record(Operation::Punch { offset, length });
        Ok(())
    }
}
