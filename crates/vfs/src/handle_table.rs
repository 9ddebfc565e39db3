//! Open files and directories by the number the guest has for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Errno, Event, Handle, Inode, Observer};

/// A bounded table. A handle is only valid together with the inode it was opened for, and its
/// number is never used again.
pub(crate) struct HandleTable<T> {
    state: Mutex<State<T>>,
    limit: usize,
    observer: Observer,
}

struct State<T> {
    open: HashMap<u64, (Inode, Arc<T>)>,
    next: u64,
    told: bool,
}

impl<T> HandleTable<T> {
    pub(crate) fn new(limit: usize, observer: Observer) -> Self {
        let state = State { open: HashMap::new(), next: 1, told: false };
        Self { state: Mutex::new(state), limit, observer }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `ENFILE` when the table is full.
    pub(crate) fn insert(&self, inode: Inode, value: T) -> Result<Handle, Errno> {
        let mut state = self.lock();
        if state.open.len() >= self.limit {
            if !std::mem::replace(&mut state.told, true) {
                self.observer.report(Event::Limit { what: "open files", limit: self.limit });
            }
            return Err(Errno::ENFILE);
        }
        let handle = state.next;
        state.next += 1;
        state.open.insert(handle, (inode, Arc::new(value)));
        Ok(Handle(handle))
    }

    /// `EBADF` for a number that is not open, or open for another inode.
    pub(crate) fn get(&self, inode: Inode, handle: Handle) -> Result<Arc<T>, Errno> {
        match self.lock().open.get(&handle.0) {
            Some((owner, value)) if *owner == inode => Ok(Arc::clone(value)),
            _ => Err(Errno::EBADF),
        }
    }

    /// The same errors as [`get`](Self::get).
    pub(crate) fn remove(&self, inode: Inode, handle: Handle) -> Result<Arc<T>, Errno> {
        let mut state = self.lock();
        match state.open.get(&handle.0) {
            Some((owner, _)) if *owner == inode => {
                state.open.remove(&handle.0).map(|(_, value)| value).ok_or(Errno::EBADF)
            }
            _ => Err(Errno::EBADF),
        }
    }

    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut self.lock().open);
        drop(old);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_worth_nothing_for_another_inode_or_after_its_release() {
        let table = HandleTable::new(8, Observer::log());
        let handle = table.insert(Inode(5), 'a').unwrap();
        assert_eq!(table.get(Inode(6), handle), Err(Errno::EBADF));
        assert_eq!(*table.get(Inode(5), handle).unwrap(), 'a');
        assert_eq!(table.remove(Inode(6), handle), Err(Errno::EBADF));
        table.remove(Inode(5), handle).unwrap();
        assert_eq!(table.get(Inode(5), handle), Err(Errno::EBADF));
        assert_ne!(table.insert(Inode(5), 'b').unwrap(), handle);
    }

    #[test]
    fn a_full_table_refuses_and_says_so_once() {
        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        let table = HandleTable::new(1, Observer::new(move |_| *count.lock().unwrap() += 1));
        let first = table.insert(Inode(1), ()).unwrap();
        assert_eq!(table.insert(Inode(1), ()), Err(Errno::ENFILE));
        assert_eq!(table.insert(Inode(1), ()), Err(Errno::ENFILE));
        assert_eq!(*told.lock().unwrap(), 1);
        table.remove(Inode(1), first).unwrap();
        assert_eq!(table.len(), 1 - 1);
        table.insert(Inode(1), ()).unwrap();
    }
}
