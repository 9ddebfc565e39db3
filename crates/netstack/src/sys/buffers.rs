//! Memory for the two buffers of a connection, used again last in, first out.
//!
//! Fresh memory costs a page fault for every four kilobytes; a slot that was just given back is
//! mapped and warm. A few slots are kept, the rest goes back to the system.
#![allow(unsafe_code, reason = "smoltcp cannot give a buffer back, so it is lent a slice")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::rc::Rc;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

/// Free slots that are kept.
const KEPT: usize = 64;

/// Slots of one size.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    free: Rc<RefCell<Vec<Slot>>>,
    half: NonZeroUsize,
}

/// A mapping of its own.
#[derive(Debug)]
struct Slot {
    memory: NonNull<c_void>,
    length: NonZeroUsize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `lease` with this length, is in no other slot, and no
        // slice of it is left: a slot is dropped by its pool, or by its lease at the latest.
        let result = unsafe { munmap(self.memory, self.length.get()) };
        debug_assert_eq!(result, Ok(()));
    }
}

/// A slot in use. It outlives the slices that were taken from it.
#[derive(Debug)]
struct Lease {
    slot: Option<Slot>,
    pool: Buffers,
}

/// A socket, alone in its set, whose buffers are a slot.
///
/// The socket is for use in place: whoever took it out of here would take slices along that end
/// with this.
pub(crate) struct LeasedSocket {
    set: SocketSet<'static>,
    handle: SocketHandle,
    /// Dropped after the set.
    _lease: Lease,
}

impl Buffers {
    /// Slots of two buffers of `half` bytes each.
    pub(crate) fn new(half: NonZeroUsize) -> Self {
        Self { free: Rc::default(), half }
    }

    /// A socket with a slot for its buffers.
    pub(crate) fn socket(&self) -> io::Result<LeasedSocket> {
        let lease = self.lease()?;
        // SAFETY: once for this lease, which is the last field of what holds the socket, and so is
        // dropped after it.
        let (receive, send) = unsafe { lease.slices() };
        let buffers = (tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(send));
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(tcp::Socket::new(buffers.0, buffers.1));
        Ok(LeasedSocket { set, handle, _lease: lease })
    }

    fn lease(&self) -> io::Result<Lease> {
        let kept = self.free.borrow_mut().pop();
        let slot = match kept {
            Some(slot) => slot,
            None => {
                let length = self.half.saturating_mul(NonZeroUsize::MIN.saturating_add(1));
                let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
                let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
                // SAFETY: a new private mapping at an address of the kernel's choice.
                let memory = unsafe { mmap_anonymous(None, length, access, flags) }?;
                Slot { memory, length }
            }
        };
        Ok(Lease { slot: Some(slot), pool: self.clone() })
    }
}

impl Lease {
    /// The two buffers.
    ///
    /// # Safety
    /// Called once a lease, and what holds the slices is dropped before the lease is.
    unsafe fn slices(&self) -> (&'static mut [u8], &'static mut [u8]) {
        let Some(slot) = &self.slot else { return (&mut [], &mut []) };
        let half = self.pool.half.get();
        let start = slot.memory.cast::<u8>();
        // SAFETY: the mapping has two halves, is initialised (with zeros at first), and by the
        // caller's promise nothing else refers to it while these do.
        let first = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), half) };
        // SAFETY: `half` bytes further on is still inside of the mapping.
        let middle = unsafe { start.add(half) };
        // SAFETY: as for the first half; the two do not overlap.
        let second = unsafe { std::slice::from_raw_parts_mut(middle.as_ptr(), half) };
        (first, second)
    }
}

impl LeasedSocket {
    pub(crate) fn get(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// The set that holds it, for its interface.
    pub(crate) fn set(&mut self) -> &mut SocketSet<'static> {
        &mut self.set
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = self.pool.free.borrow_mut();
        if free.len() < KEPT {
            free.extend(self.slot.take());
        }
    }
}
