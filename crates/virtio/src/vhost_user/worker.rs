//! The thread that serves the rings of one device.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use virtio_queue::Queue;

use super::Device;
use super::notify::{Kick, Notifier};
use super::ring::{Order, Ring};
use crate::limits::{BLOCKING_THREAD_END, BLOCKING_THREAD_IDLE, MAX_BLOCKING_THREADS};
use crate::memory::SharedMemory;

/// A ring to begin with.
pub(super) struct Start {
    pub(super) queue: Queue,
    pub(super) kick: File,
    pub(super) call: Notifier,
    pub(super) error: Notifier,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) reply: oneshot::Sender<io::Result<()>>,
}

/// Starts the thread. It ends when the sender is dropped, and drops what is under way: nobody is
/// there to be answered then.
pub(super) fn spawn<D: Device>(
    device: Arc<D>,
    memory: SharedMemory,
) -> io::Result<(mpsc::UnboundedSender<Start>, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .thread_name("virtio-read")
        .build()?;
    let thread = std::thread::Builder::new().name("virtio-rings".into()).spawn(move || {
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
    mut starts: mpsc::UnboundedReceiver<Start>,
) {
    while let Some(start) = starts.recv().await {
        let Start { queue, kick, call, error, orders, reply } = start;
        let begun = Kick::new(kick).map(|kick| {
            let device = Arc::clone(&device);
            let memory = memory.clone();
            let ring = Ring { device, memory, queue, kick, call, error, orders };
            tokio::task::spawn_local(ring.run());
        });
        let _ = reply.send(begun);
    }
}
