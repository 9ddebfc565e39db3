//! A network device.

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, OnceLock};

use blockcow::{ReadTarget, WriteSource};
use futures::future::{FutureExt, LocalBoxFuture};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{VIRTIO_NET_F_MAC, VIRTIO_NET_F_MTU};
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use super::frames::{Incoming, Outgoing};
use crate::chain::{Chain, ChainError};
use crate::error::DeviceError;
use crate::limits::{MAX_FRAME, MAX_RING_SIZE};
use crate::local::LocalDevice;
use crate::memory::{Memory, Segment, SegmentTarget, SharedMemory, total};
use crate::rings::Device;
use crate::source::SegmentSource;

/// The first queue is the one to the guest.
const TO_GUEST: usize = 0;
/// struct virtio_net_hdr_v1: nothing is offloaded, so all of it is 0 but the last field.
const HEADER: usize = 12;
/// How many chains a frame to the guest takes.
const ONE_BUFFER: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/// Where the MTU stands in struct virtio_net_config, after address, status and number of queues.
const MTU_AT: usize = 10;

/// A network device with this hardware address and largest packet, its frames at the other end of
/// a connected stream socket.
///
/// # Errors
/// [`DeviceError`] when there is no thread for it.
pub fn local_network(
    frames: StdUnixStream,
    mac: [u8; 6],
    mtu: u16,
    memory: &SharedMemory,
) -> Result<LocalDevice, DeviceError> {
    frames.set_nonblocking(true).map_err(DeviceError::Start)?;
    let mut config = vec![0; MTU_AT];
    config[..mac.len()].copy_from_slice(&mac);
    config.extend_from_slice(&mtu.to_le_bytes());
    let line = Arc::new(Line {
        frames,
        socket: OnceLock::new(),
        incoming: Mutex::new(Incoming::new()),
        outgoing: Mutex::new(Outgoing::default()),
    });
    LocalDevice::start(VIRTIO_ID_NET, Network { line, config }, memory)
}

struct Network {
    line: Arc<Line>,
    config: Vec<u8>,
}

/// The socket, and what is between it and the rings.
struct Line {
    frames: StdUnixStream,
    /// The same, once the device's own runtime has it.
    socket: OnceLock<UnixStream>,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

impl Device for Network {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_MTU
    }

    fn queues(&self) -> u16 {
        2
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn serve(
        &self,
        queue: usize,
        memory: &Memory,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<LocalBoxFuture<'static, u32>, ChainError> {
        let Chain { readable, writable } = Chain::collect(memory, chain, MAX_RING_SIZE.into())?;
        let (line, memory) = (Arc::clone(&self.line), memory.clone());
        if queue == TO_GUEST {
            if total(&writable) < HEADER as u64 {
                return Err(ChainError::NoRoom);
            }
            return Ok(async move { line.receive(&memory, &writable).await }.boxed_local());
        }
        if total(&readable) < HEADER as u64 {
            return Err(ChainError::NoHeader);
        }
        Ok(async move { line.send(&memory, &readable).await }.boxed_local())
    }
}

impl Line {
    /// Must be called in the device's runtime.
    fn socket(&self) -> io::Result<&UnixStream> {
        if let Some(socket) = self.socket.get() {
            return Ok(socket);
        }
        let socket = UnixStream::from_std(self.frames.try_clone()?)?;
        Ok(self.socket.get_or_init(|| socket))
    }

    /// Waits for a frame that fits, and writes it. Its turn comes after those that asked before.
    async fn receive(&self, memory: &GuestMemoryMmap, writable: &[Segment]) -> u32 {
        let room = total(writable) - HEADER as u64;
        let mut incoming = self.incoming.lock().await;
        let Ok(socket) = self.socket() else { return pending().await };
        loop {
            // Without frames the link is a silent one.
            let Ok(frame) = incoming.next(socket).await else { return pending().await };
            if frame.len() as u64 > room {
                tracing::debug!(length = frame.len(), room, "a frame was too large for the guest");
                continue;
            }
            let mut target = SegmentTarget::new(memory, writable);
            return match target.put(&ONE_BUFFER).and_then(|()| target.put(frame)) {
                Ok(()) => u32::try_from(HEADER + frame.len()).unwrap_or(0),
                Err(_) => 0,
            };
        }
    }

    async fn send(&self, memory: &GuestMemoryMmap, readable: &[Segment]) -> u32 {
        let mut source = SegmentSource::new(memory, readable);
        let length = source.remaining() - HEADER;
        if length > MAX_FRAME || source.take(&mut [0; HEADER]).is_err() {
            return 0;
        }
        let mut outgoing = self.outgoing.lock().await;
        let Ok(socket) = self.socket() else { return 0 };
        let length = u32::try_from(length).unwrap_or(0);
        if let Err(error) = outgoing.send(socket, length, |bytes| source.take(bytes)).await {
            tracing::debug!(%error, "a frame was not sent");
        }
        0
    }
}
