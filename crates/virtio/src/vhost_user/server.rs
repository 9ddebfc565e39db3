//! One device served to one front end, from its first message to its last.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use vhost::vhost_user::{BackendReqHandler, Error};
use vm_memory::GuestMemoryMmap;

use super::handler::Handler;
use crate::error::DeviceError;
use crate::memory::SharedMemory;
use crate::rings::{self, Device};

/// A device that is being served. Dropping it ends the service without waiting for the end.
#[derive(Debug)]
pub struct DeviceServer {
    socket: UnixStream,
    thread: Option<JoinHandle<()>>,
    failure: Arc<OnceLock<DeviceError>>,
}

impl DeviceServer {
    pub(crate) fn start<D: Device>(socket: UnixStream, device: D) -> Result<Self, DeviceError> {
        socket.set_nonblocking(false).map_err(DeviceError::Start)?;
        let ours = socket.try_clone().map_err(DeviceError::Start)?;
        let failure = Arc::new(OnceLock::new());
        let told = Arc::clone(&failure);
        let device = Arc::new(device);
        let memory = SharedMemory::new(GuestMemoryMmap::new());
        let (work, rings) =
            rings::spawn(Arc::clone(&device), memory.clone()).map_err(DeviceError::Start)?;
        let handler = Arc::new(Mutex::new(Handler::new(device, memory, work)));
        let connection = BackendReqHandler::from_stream(socket, handler);
        let line = ours.try_clone().map_err(DeviceError::Start)?;
        let thread = std::thread::Builder::new()
            .name("virtio-control".into())
            .spawn(move || {
                confine::thread(confine::Role::DeviceControl);
                // The end of the connection is the end of the handler, and so of the rings.
                let served = converse(connection);
                // The front end is to know, though this side's other descriptor is still open.
                let _ = line.shutdown(Shutdown::Both);
                let ended = rings.join().map_err(|_| DeviceError::Panicked);
                if let Err(error) = served.and(ended) {
                    tracing::warn!(%error, "a device ended");
                    let _ = told.set(error);
                }
            })
            .map_err(DeviceError::Start)?;
        Ok(Self { socket: ours, thread: Some(thread), failure })
    }

    /// Ends the service. When this returns, guest memory is not touched any more and no thread is
    /// left; at most a request's deadline later ([`crate::limits::REQUEST_DEADLINE`]) if the
    /// front end is just stopping a ring, else at once. An error says how the service had ended
    /// before; a front end that has hung up is none.
    pub fn stop(mut self) -> Result<(), DeviceError> {
        self.hang_up();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| DeviceError::Panicked)?;
        // The thread has ended, so this is the only one left.
        let failure = Arc::get_mut(&mut self.failure).and_then(OnceLock::take);
        failure.map_or(Ok(()), Err)
    }

    /// Whether the service has ended: the front end has hung up, or there is a failure.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Why the service has ended by itself, if it has and the front end did not just hang up.
    pub fn failure(&self) -> Option<&DeviceError> {
        self.failure.get()
    }

    fn hang_up(&self) {
        // It fails when the front end was quicker.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for DeviceServer {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// Answers the front end until one side hangs up.
fn converse<D: Device>(
    mut connection: BackendReqHandler<Mutex<Handler<D>>>,
) -> Result<(), DeviceError> {
    loop {
        match connection.handle_request() {
            Ok(()) => {}
            Err(Error::Disconnected | Error::SocketBroken(_)) => return Ok(()),
            Err(Error::SocketRetry(_)) => {}
            Err(error) => return Err(DeviceError::Protocol(format!("failed: {error}"))),
        }
    }
}
