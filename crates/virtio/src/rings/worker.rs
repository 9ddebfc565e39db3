//! The thread that serves the rings of one device.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use confine::Role;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use virtio_queue::Queue;
use vm_memory::GuestAddressSpace;

use super::Device;
use super::left::LeftRings;
use super::notify::{Kick, Notifier};
use super::ring::{Order, Ring};
use crate::limits::{BLOCKING_THREAD_END, BLOCKING_THREAD_IDLE, MAX_BLOCKING_THREADS};
use crate::memory::SharedMemory;

/// What the thread is to do.
pub(crate) enum Work {
    Start(Start),
    /// All rings are stopped, and none will go on.
    Reset,
}

/// A ring to begin with.
pub(crate) struct Start {
    pub(crate) index: usize,
    pub(crate) queue: Queue,
    pub(crate) kick: File,
    pub(crate) call: Notifier,
    pub(crate) error: Notifier,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) reply: oneshot::Sender<io::Result<()>>,
}

/// Starts the thread. It ends when the sender is dropped, and drops what is under way: nobody is
/// there to be answered then.
pub(crate) fn spawn<D: Device>(
    device: Arc<D>,
    memory: SharedMemory,
) -> io::Result<(mpsc::UnboundedSender<Work>, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .thread_name("virtio-read")
        .on_thread_start(|| confine::thread(Role::Device))
        .build()?;
    let thread = std::thread::Builder::new().name("virtio-rings".into()).spawn(move || {
        confine::thread(Role::Device);
        let rings = LocalSet::new();
        rings.block_on(&runtime, serve(device, memory, receiver));
        drop(rings);
        // Idle threads end at once. A read that hangs in the kernel must not hold up the end; it
        // touches no guest memory.
        runtime.shutdown_timeout(BLOCKING_THREAD_END);
    })?;
    Ok((sender, thread))
}

async fn serve<D: Device>(
    device: Arc<D>,
    memory: SharedMemory,
    mut work: mpsc::UnboundedReceiver<Work>,
) {
    let left = Rc::new(RefCell::new(LeftRings::default()));
    while let Some(work) = work.recv().await {
        let start = match work {
            Work::Start(start) => start,
            Work::Reset => {
                left.borrow_mut().begin_anew(&*device);
                continue;
            }
        };
        let Start { index, queue, kick, call, error, orders, reply } = start;
        let begun = Kick::new(kick).map(|kick| {
            let jobs = left.borrow_mut().take(index, &queue, &memory.memory(), &*device);
            let device = Arc::clone(&device);
            let (memory, left) = (memory.clone(), Rc::clone(&left));
            let ring = Ring { index, device, memory, queue, kick, call, error, orders, left };
            tokio::task::spawn_local(ring.run(jobs));
        });
        let _ = reply.send(begun);
    }
}
