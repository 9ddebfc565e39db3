//! The port as a device.

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};

use blockcow::{ReadTarget, WriteSource};
use futures::future::{FutureExt, LocalBoxFuture, ready};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, watch};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use super::messages::{FromDriver, MESSAGE_BYTES, port_add, port_name, port_open};
use crate::chain::{Chain, ChainError};
use crate::error::DeviceError;
use crate::limits::{MAX_CONSOLE_MESSAGES, MAX_DESCRIPTORS, PORT_PIECE, PORT_RING_SIZE};
use crate::local::LocalDevice;
use crate::memory::{Memory, Segment, SegmentTarget, SharedMemory, total};
use crate::rings::Device;
use crate::source::SegmentSource;

/// VIRTIO_CONSOLE_F_MULTIPORT: ports are told of, and named.
const MULTIPORT: u64 = 1 << 1;
/// Two for each port, to the guest and from it, and two for control after those of port 0.
const QUEUES: u16 = 6;
const CONTROL_TO_GUEST: usize = 2;
const CONTROL_FROM_GUEST: usize = 3;
const PORT_TO_GUEST: usize = 4;
const PORT_FROM_GUEST: usize = 5;
/// struct virtio_console_config: columns and rows of a terminal, which this is not, how many ports
/// there are at most, and a register that is not offered.
const CONFIG: [u8; 12] = [0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];

/// A port of this name, its bytes at the other end of a connected stream socket.
///
/// # Errors
/// [`DeviceError`] when there is no thread for it.
pub fn local_port(
    name: &str,
    stream: StdUnixStream,
    memory: &SharedMemory,
) -> Result<LocalDevice, DeviceError> {
    stream.set_nonblocking(true).map_err(DeviceError::Start)?;
    let (messages, queued) = mpsc::channel(MAX_CONSOLE_MESSAGES);
    let port = Arc::new(Port {
        name: name.to_owned(),
        stream,
        socket: OnceLock::new(),
        messages,
        queued: Mutex::new(queued),
        is_open: watch::Sender::new(false),
        incoming: Mutex::new(()),
        outgoing: Mutex::new(()),
    });
    LocalDevice::start(VIRTIO_ID_CONSOLE, Console { port }, memory)
}

struct Console {
    port: Arc<Port>,
}

struct Port {
    name: String,
    stream: StdUnixStream,
    /// The same, once the device's own runtime has it.
    socket: OnceLock<UnixStream>,
    /// What the driver is to be told.
    messages: mpsc::Sender<Vec<u8>>,
    queued: Mutex<mpsc::Receiver<Vec<u8>>>,
    /// Whether a program of the guest has the port open.
    is_open: watch::Sender<bool>,
    /// Whose turn it is to read from the socket.
    incoming: Mutex<()>,
    /// Whose turn it is to write to it.
    outgoing: Mutex<()>,
}

impl Device for Console {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        MULTIPORT
    }

    fn queues(&self) -> u16 {
        QUEUES
    }

    fn queue_size(&self, _queue: usize) -> u16 {
        PORT_RING_SIZE
    }

    fn config(&self) -> &[u8] {
        &CONFIG
    }

    fn serve(
        &self,
        queue: usize,
        memory: &Memory,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<LocalBoxFuture<'static, u32>, ChainError> {
        let Chain { readable, writable } = Chain::collect(memory, chain, MAX_DESCRIPTORS)?;
        let (port, memory) = (Arc::clone(&self.port), memory.clone());
        if matches!(queue, CONTROL_TO_GUEST | PORT_TO_GUEST) && writable.is_empty() {
            return Err(ChainError::NoRoom);
        }
        Ok(match queue {
            CONTROL_TO_GUEST => async move { port.tell(&memory, &writable).await }.boxed_local(),
            CONTROL_FROM_GUEST => {
                port.hear(&memory, &readable);
                ready(0).boxed_local()
            }
            PORT_TO_GUEST => async move { port.receive(&memory, &writable).await }.boxed_local(),
            PORT_FROM_GUEST => async move { port.send(&memory, &readable).await }.boxed_local(),
            // Of a port that is not there: nothing comes from it, and what goes to it is lost.
            _ if !writable.is_empty() => pending().boxed_local(),
            _ => ready(0).boxed_local(),
        })
    }

    fn reset(&self) {
        self.port.is_open.send_replace(false);
        // Nothing is under way, so nobody has it.
        if let Ok(mut queued) = self.port.queued.try_lock() {
            while queued.try_recv().is_ok() {}
        }
    }
}

impl Port {
    /// Must be called in the device's runtime.
    fn socket(&self) -> io::Result<&UnixStream> {
        if let Some(socket) = self.socket.get() {
            return Ok(socket);
        }
        let socket = UnixStream::from_std(self.stream.try_clone()?)?;
        Ok(self.socket.get_or_init(|| socket))
    }

    /// Queues a message. A driver that takes none loses those that come on top.
    fn say(&self, message: Vec<u8>) {
        if self.messages.try_send(message).is_err() {
            tracing::debug!("a guest takes no messages about its ports");
        }
    }

    fn hear(&self, memory: &GuestMemoryMmap, readable: &[Segment]) {
        let mut message = [0; MESSAGE_BYTES];
        if SegmentSource::new(memory, readable).take(&mut message).is_err() {
            return;
        }
        match FromDriver::parse(message) {
            FromDriver::DeviceReady => self.say(port_add()),
            FromDriver::PortReady => {
                self.say(port_name(&self.name));
                self.say(port_open(true));
            }
            FromDriver::PortOpen(open) => {
                self.is_open.send_replace(open);
            }
            FromDriver::Other => {}
        }
    }

    /// Waits for a message, and writes it.
    async fn tell(&self, memory: &GuestMemoryMmap, writable: &[Segment]) -> u32 {
        let Some(message) = self.queued.lock().await.recv().await else { return pending().await };
        let room = usize::try_from(total(writable)).unwrap_or(usize::MAX);
        let message = &message[..message.len().min(room)];
        put(memory, writable, message)
    }

    /// Waits for bytes that the guest may have, and writes them.
    async fn receive(&self, memory: &GuestMemoryMmap, writable: &[Segment]) -> u32 {
        let _turn = self.incoming.lock().await;
        let room = usize::try_from(total(writable)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; room.min(PORT_PIECE)];
        let mut open = self.is_open.subscribe();
        let Ok(socket) = self.socket() else { return pending().await };
        loop {
            if open.wait_for(|open| *open).await.is_err() || socket.readable().await.is_err() {
                return pending().await;
            }
            if !*open.borrow() {
                continue;
            }
            match socket.try_read(&mut bytes) {
                Ok(0) => {
                    self.say(port_open(false));
                    return pending().await;
                }
                Ok(count) => return put(memory, writable, &bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, "a port cannot be read");
                    return pending().await;
                }
            }
        }
    }

    /// Writes all bytes to the host, or drops them when it has hung up.
    async fn send(&self, memory: &GuestMemoryMmap, readable: &[Segment]) -> u32 {
        let _turn = self.outgoing.lock().await;
        let mut source = SegmentSource::new(memory, readable);
        let mut bytes = vec![0; source.remaining().min(PORT_PIECE)];
        let Ok(socket) = self.socket() else { return 0 };
        while source.remaining() > 0 {
            let length = source.remaining().min(bytes.len());
            let piece = &mut bytes[..length];
            if source.take(piece).is_err() || write_all(socket, piece).await.is_err() {
                break;
            }
        }
        0
    }
}

fn put(memory: &GuestMemoryMmap, writable: &[Segment], bytes: &[u8]) -> u32 {
    match SegmentTarget::new(memory, writable).put(bytes) {
        Ok(()) => u32::try_from(bytes.len()).unwrap_or(0),
        Err(_) => 0,
    }
}

async fn write_all(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
