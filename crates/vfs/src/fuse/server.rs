//! The server: what is refused whatever the backend says, slots, deadlines.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::abi::{self, Opcode};
use super::dispatch::{self, Answer};
use super::init::{self, Agreement};
use super::reply;
use super::request::{Header, Offer, Operation};
use crate::{Changes, Errno, Event, FileSystem, Observer, Readable, SetTime, Time, Writable};

/// How much work a guest may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests in work at a time; further ones wait for a slot, as long as their deadline is.
    pub slots: usize,
    /// Requests waiting for a lock at a time; a further one is refused with `ENOLCK`.
    pub lock_waits: usize,
    /// How long one waits for a lock before it is `EINTR`: over virtio-fs a guest cannot take a
    /// request back, and a process that was killed stays until it is answered.
    pub lock_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { slots: 256, lock_waits: 256, lock_wait: Duration::from_secs(60) }
    }
}

/// A server without its backend's type, for transports.
pub trait Serve: Send + Sync {
    /// [`Server::handle`].
    fn handle<'a>(
        &'a self,
        request: Readable,
        reply: &'a mut Writable,
    ) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>>;

    /// [`Server::reset`].
    fn reset(&self);
}

/// Serves one mount to one guest.
pub struct Server<F> {
    fs: F,
    limits: Limits,
    observer: Observer,
    mark: Option<Time>,
    agreed: Mutex<Option<Agreement>>,
    slots: Semaphore,
    lock_waits: Semaphore,
    /// Waits for locks that an INTERRUPT may end, by the request's number.
    interruptible: Mutex<HashMap<u64, Arc<Notify>>>,
}

impl<F: FileSystem> Server<F> {
    /// A server that waits for INIT.
    pub fn new(fs: F, limits: Limits, observer: Observer) -> Self {
        Self {
            fs,
            limits,
            observer,
            mark: None,
            agreed: Mutex::new(None),
            slots: Semaphore::new(limits.slots),
            lock_waits: Semaphore::new(limits.lock_waits),
            interruptible: Mutex::default(),
        }
    }

    /// A guest that sets the modification time of a file to `mark`, and changes nothing else, wants
    /// its own kernel to tell its watchers: it is answered with the file's attributes, and nothing
    /// is changed. So this works on a read-only mount, and is no hole in it.
    #[must_use]
    pub fn with_mark(self, mark: Time) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// The backend.
    pub fn file_system(&self) -> &F {
        &self.fs
    }

    /// What INIT agreed on; `None` before it.
    pub fn agreement(&self) -> Option<Agreement> {
        *lock(&self.agreed)
    }

    /// As if the guest had just been connected: for a device that is reset.
    pub fn reset(&self) {
        *lock(&self.agreed) = None;
        self.fs.reset();
    }

    /// Serves one request and puts its reply; how many bytes that is, 0 for "no reply".
    ///
    /// Must be polled inside a tokio runtime with timers. May be ready at the first poll: what is
    /// in memory already is answered without being suspended. Dropping the future abandons the
    /// request without a reply.
    pub async fn handle(&self, mut request: Readable, reply: &mut Writable) -> usize {
        let Some(header) = Header::take(&mut request) else {
            tracing::debug!("request shorter than its header");
            return 0;
        };
        match Operation::take(&header, &mut request) {
            Ok(Operation::Forget { count }) => {
                self.fs.forget(header.inode, count);
                0
            }
            Ok(Operation::BatchForget { nodes }) => {
                for (inode, count) in nodes {
                    self.fs.forget(inode, count);
                }
                0
            }
            Ok(Operation::Interrupt { unique }) => {
                if let Some(waiting) = lock(&self.interruptible).get(&unique) {
                    waiting.notify_one();
                }
                0
            }
            Err(_) if !is_answered(header.opcode) => 0,
            Err(errno) => reply::put(reply, header.unique, Err(errno)),
            Ok(operation) => {
                let operation = self.without_mark(operation);
                match self.admit(&operation, reply) {
                    Ok(()) => self.answer(&header, operation, request, reply).await,
                    Err(errno) => reply::put(reply, header.unique, Err(errno)),
                }
            }
        }
    }

    /// Setting the mark is asking for attributes.
    fn without_mark(&self, operation: Operation) -> Operation {
        let (Some(mark), Operation::SetAttr { handle, changes }) = (self.mark, &operation) else {
            return operation;
        };
        let announcement = Changes {
            modified: Some(SetTime::To(mark)),
            drop_set_id: changes.drop_set_id,
            ..Changes::default()
        };
        match *changes == announcement {
            true => Operation::GetAttr { handle: *handle },
            false => operation,
        }
    }

    /// What is refused without asking the backend.
    fn admit(&self, operation: &Operation, reply: &Writable) -> Result<(), Errno> {
        let begun = lock(&self.agreed).is_some();
        if begun == matches!(operation, Operation::Init { .. }) {
            return Err(Errno::EIO);
        }
        if operation.writes() && self.fs.profile().read_only {
            return Err(Errno::EROFS);
        }
        // A reply that cannot be delivered would leave lookups and handles nobody gives back.
        if reply.capacity() < abi::OUT_HEADER_SIZE + dispatch::reply_size(operation) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    async fn answer(
        &self,
        header: &Header,
        operation: Operation,
        mut request: Readable,
        reply: &mut Writable,
    ) -> usize {
        let result = match operation {
            Operation::Init { offer } => self.init(&offer).map(Answer::Bytes),
            Operation::Destroy => {
                self.reset();
                Ok(Answer::NOTHING)
            }
            Operation::SetLock { wait: true, .. } => {
                let work = dispatch::perform(&self.fs, header, operation, &mut request, reply);
                self.wait_for_lock(header.unique, work).await
            }
            operation => {
                let name = Opcode::from_number(header.opcode).map_or("", Opcode::name);
                let work = dispatch::perform(&self.fs, header, operation, &mut request, reply);
                self.in_time(name, self.with_slot(work)).await
            }
        };
        match result {
            Ok(Answer::Bytes(body)) => reply::put(reply, header.unique, Ok(body)),
            Ok(Answer::InPlace(length)) => reply::put_header(reply, header.unique, Ok(()), length),
            Err(errno) => reply::put(reply, header.unique, Err(errno)),
        }
    }

    fn init(&self, offer: &Offer) -> Result<Vec<u8>, Errno> {
        let profile = self.fs.profile();
        let agreement = init::negotiate(offer, &profile)?;
        tracing::debug!(?offer, ?agreement, "FUSE_INIT");
        *lock(&self.agreed) = agreement;
        Ok(init::encode(agreement.as_ref(), &profile))
    }

    async fn with_slot<T>(&self, work: impl Future<Output = Result<T, Errno>>) -> Result<T, Errno> {
        let slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => self.slots.acquire().await.map_err(|_| Errno::EIO)?,
        };
        let result = work.await;
        drop(slot);
        result
    }

    /// Ends with `EIO` and an event at the deadline. Makes no timer for work that is done at once.
    async fn in_time<T>(
        &self,
        request: &'static str,
        work: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let mut work = pin!(work);
        if let Poll::Ready(result) = poll_once(work.as_mut()).await {
            return result;
        }
        let after = self.fs.profile().deadline;
        match tokio::time::timeout(after, work).await {
            Ok(result) => result,
            Err(_) => {
                self.observer.report(Event::Deadline { request, after });
                Err(Errno::EIO)
            }
        }
    }

    /// Not bound by the deadline of other requests, nor in their slots.
    async fn wait_for_lock<T>(
        &self,
        unique: u64,
        work: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let mut work = pin!(work);
        if let Poll::Ready(result) = poll_once(work.as_mut()).await {
            return result;
        }
        let _permit = self.lock_waits.try_acquire().map_err(|_| {
            let what = "requests waiting for a lock";
            self.observer.report(Event::Limit { what, limit: self.limits.lock_waits });
            Errno::ENOLCK
        })?;
        let interrupted = Arc::new(Notify::new());
        lock(&self.interruptible).insert(unique, Arc::clone(&interrupted));
        let result = tokio::select! {
            result = work => result,
            () = interrupted.notified() => Err(Errno::EINTR),
            () = tokio::time::sleep(self.limits.lock_wait) => Err(Errno::EINTR),
        };
        lock(&self.interruptible).remove(&unique);
        result
    }
}

impl<F: FileSystem> Serve for Server<F> {
    fn handle<'a>(
        &'a self,
        request: Readable,
        reply: &'a mut Writable,
    ) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
        Box::pin(Server::handle(self, request, reply))
    }

    fn reset(&self) {
        Server::reset(self);
    }
}

/// FORGET and INTERRUPT have no reply, whatever is in them.
fn is_answered(opcode: u32) -> bool {
    !matches!(
        Opcode::from_number(opcode),
        Some(Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt)
    )
}

async fn poll_once<W: Future>(mut work: Pin<&mut W>) -> Poll<W::Output> {
    std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
