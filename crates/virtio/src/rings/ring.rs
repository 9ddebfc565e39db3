//! One ring: its requests are taken, served side by side, and put back in any order.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use super::left::{Left, LeftRings};
use super::notify::{Kick, Notifier};
use super::{Device, Setup};
use crate::limits::BATCH;
use crate::memory::SharedMemory;

/// What the connection tells a running ring.
pub(crate) enum Order {
    Call(Notifier),
    Error(Notifier),
    /// Take nothing more, finish what is under way or let it rest, and say where the next request
    /// would be.
    Stop(oneshot::Sender<u16>),
    /// Take nothing more, drop what is under way, and say so: the driver has let go of the device.
    Leave(oneshot::Sender<()>),
}

/// Requests under way.
pub(crate) type Jobs = FuturesUnordered<Job>;

/// A request under way.
pub(crate) struct Job {
    head: u16,
    work: LocalBoxFuture<'static, u32>,
}

impl Future for Job {
    type Output = (u16, u32);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.work.poll_unpin(context).map(|written| (self.head, written))
    }
}

pub(crate) struct Ring<D> {
    pub(crate) index: usize,
    pub(crate) device: Arc<D>,
    pub(crate) memory: SharedMemory,
    pub(crate) queue: Queue,
    pub(crate) kick: Kick,
    pub(crate) call: Notifier,
    pub(crate) error: Notifier,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    /// Where it leaves what is not done when it is stopped.
    pub(crate) left: Rc<RefCell<LeftRings>>,
}

/// What a ring does with its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for the guest's notification.
    Waiting,
    /// There is more to take.
    Busy,
    /// The guest broke the rules. Nothing is taken until the ring is set up anew.
    Broken,
}

impl<D: Device> Ring<D> {
    /// Serves, beginning with these requests, until told to stop, or until nobody is there to tell.
    pub(crate) async fn run(mut self, mut jobs: Jobs) {
        // There may be requests from before: the guest does not notify twice.
        let mut state = State::Busy;
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Call(call)) => self.call = call,
                    Some(Order::Error(error)) => self.error = error,
                    Some(Order::Stop(reply)) => {
                        self.finish(&mut jobs).await;
                        let left = Left::new(&self.queue, &self.memory.memory(), jobs);
                        self.left.borrow_mut().keep(self.index, left);
                        let _ = reply.send(self.queue.next_avail());
                        return;
                    }
                    Some(Order::Leave(reply)) => {
                        drop(jobs);
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                Some(done) = jobs.next() => {
                    self.put_back(done, &mut jobs);
                    if state == State::Waiting {
                        // The ring may have been left alone because too many were under way.
                        state = State::Busy;
                    }
                }
                kicked = self.kick.wait(), if state == State::Waiting => {
                    state = match kicked {
                        Ok(()) => State::Busy,
                        Err(error) => self.break_off(&error),
                    };
                }
                () = tokio::task::yield_now(), if state == State::Busy => {}
            }
            if state == State::Busy {
                state = self.take(&mut jobs).await;
            }
        }
    }

    /// Takes requests and serves at once what can be.
    async fn take(&mut self, jobs: &mut Jobs) -> State {
        let memory = self.memory.memory();
        // The memory may be another one since the last time.
        if !self.queue.is_valid(&*memory) {
            return self.break_off(&"The ring is not in the guest's memory");
        }
        let mut ready = 0;
        let state = loop {
            if jobs.len() >= usize::from(self.queue.size()) {
                // More than a ring holds cannot be under way. The next completion comes back.
                break State::Waiting;
            }
            if ready >= BATCH {
                break State::Busy;
            }
            let chain = match self.queue.iter(&*memory) {
                Ok(mut available) => available.next(),
                Err(error) => break self.break_off(&error),
            };
            let Some(chain) = chain else {
                match self.queue.enable_notification(&*memory) {
                    Ok(false) => break State::Waiting,
                    // Counted, so that a ring that always claims more cannot hold the thread.
                    Ok(true) => ready += 1,
                    Err(error) => break self.break_off(&error),
                }
                continue;
            };
            let head = chain.head_index();
            let work = match self.device.serve(self.index, &memory, chain) {
                Ok(work) => work,
                Err(refusal) => break self.break_off(&refusal),
            };
            let mut job = Job { head, work };
            match poll_fn(|context| Poll::Ready(job.poll_unpin(context))).await {
                Poll::Ready(done) => {
                    self.publish(&memory, done);
                    ready += 1;
                }
                Poll::Pending => jobs.push(job),
            }
        };
        if ready > 0 {
            self.notify(&memory);
        }
        state
    }

    /// Gives back a request, and all others that are done too.
    fn put_back(&mut self, first: (u16, u32), jobs: &mut Jobs) {
        let memory = self.memory.memory();
        self.publish(&memory, first);
        while let Some(Some(done)) = jobs.next().now_or_never() {
            self.publish(&memory, done);
        }
        self.notify(&memory);
    }

    /// Gives requests under way the time that the device allows them.
    async fn finish(&mut self, jobs: &mut Jobs) {
        let patience = self.device.stop_patience();
        let all = async {
            while let Some(done) = jobs.next().await {
                self.put_back(done, jobs);
            }
        };
        if timeout(patience, all).await.is_err() {
            tracing::debug!(requests = jobs.len(), "a stopped ring has requests under way");
        }
    }

    fn publish(&mut self, memory: &GuestMemoryMmap, (head, written): (u16, u32)) {
        if let Err(error) = self.queue.add_used(memory, head, written) {
            // A head out of the table never got here; so the memory has gone.
            tracing::debug!(%error, "a request could not be given back");
        }
    }

    fn notify(&mut self, memory: &GuestMemoryMmap) {
        // One too many does no harm.
        if self.queue.needs_notification(memory).unwrap_or(true) {
            self.call.notify();
        }
    }

    fn break_off(&self, reason: &dyn std::fmt::Display) -> State {
        // As often as the guest likes: no warning.
        tracing::debug!(%reason, "a ring is not served any more");
        self.error.notify();
        State::Broken
    }
}

/// A queue as it was described, going on where it had stopped.
pub(crate) fn queue(memory: &GuestMemoryMmap, setup: &Setup) -> Result<Queue, virtio_queue::Error> {
    let mut queue = Queue::new(crate::limits::MAX_RING_SIZE)?;
    queue.try_set_size(setup.size)?;
    queue.try_set_desc_table_address(setup.descriptors)?;
    queue.try_set_avail_ring_address(setup.available)?;
    queue.try_set_used_ring_address(setup.used)?;
    queue.set_event_idx(setup.event_idx);
    queue.set_next_avail(setup.base);
    queue.set_ready(true);
    let used = queue.used_idx(memory, Ordering::Acquire)?;
    queue.set_next_used(used.0);
    Ok(queue)
}
