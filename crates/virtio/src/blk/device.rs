//! A disk as a virtio device.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blockcow::{Disk, ReadTarget, WriteError};
use futures::future::{FutureExt, LocalBoxFuture};
use tokio::time::timeout;
use virtio_bindings::virtio_blk::{VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_ID_BYTES};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestMemoryMmap};

use super::config;
use super::request::{self, Command, DiskRange, Geometry, Request, Status};
use crate::chain::ChainError;
use crate::error::DeviceError;
use crate::limits::{BLOCK_RING_SIZE, MAX_QUEUES, REQUEST_DEADLINE};
use crate::local::LocalDevice;
use crate::memory::{Memory, SegmentTarget, SharedMemory};
use crate::rings::Device;
use crate::source::SegmentSource;
use crate::vhost_user::DeviceServer;

/// How the guest is to see a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockOptions {
    /// What /sys/block/vdX/serial shows: 1 to 20 printable ASCII characters.
    pub serial: String,
    /// How many queues: one for each processor is best, at most [`MAX_QUEUES`]. QEMU must be
    /// given the same number (`num-queues=`), or fewer.
    pub queues: u16,
}

/// Serves a disk to the front end at the other end of a connected socket, from now on, by a
/// thread of its own and one more while it is connected.
///
/// For QEMU the front end is `-chardev socket,id=b0,fd=N` with
/// `-device vhost-user-blk,chardev=b0,num-queues=Q`. The guest's memory must be a memfd
/// that is sealed against shrinking, which `memory-backend-memfd` with `share=on` is by itself.
pub fn serve_block(
    socket: UnixStream,
    disk: Arc<Disk>,
    options: BlockOptions,
) -> Result<DeviceServer, DeviceError> {
    DeviceServer::start(socket, Block::checked(disk, options)?)
}

/// The same disk as a device of a monitor in this process.
pub fn local_block(
    disk: Arc<Disk>,
    options: BlockOptions,
    memory: &SharedMemory,
) -> Result<LocalDevice, DeviceError> {
    LocalDevice::start(VIRTIO_ID_BLOCK, Block::checked(disk, options)?, memory)
}

pub(super) struct Block {
    shared: Arc<Shared>,
    geometry: Geometry,
    queues: u16,
    config: Vec<u8>,
}

/// What requests under way hold on to.
struct Shared {
    disk: Arc<Disk>,
    identity: Vec<u8>,
    /// Whether the driver knows how to flush. If not, each change is durable when it is answered.
    flushes: AtomicBool,
    /// Whether a failed request was told. A guest may repeat one as fast as it likes, so the first
    /// is a warning and the others are for who looks closer.
    failed: AtomicBool,
}

impl Block {
    fn checked(disk: Arc<Disk>, options: BlockOptions) -> Result<Self, DeviceError> {
        let BlockOptions { serial, queues } = options;
        let printable = serial.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || !(1..=VIRTIO_BLK_ID_BYTES as usize).contains(&serial.len()) {
            return Err(DeviceError::Serial(serial));
        }
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(DeviceError::Queues(queues));
        }
        Ok(Self::new(disk, &serial, queues))
    }

    pub(super) fn new(disk: Arc<Disk>, serial: &str, queues: u16) -> Self {
        // Ended by a NUL where it is shorter (virtio 1.2, 5.2.6).
        let mut identity = vec![0; VIRTIO_BLK_ID_BYTES as usize];
        identity[..serial.len()].copy_from_slice(serial.as_bytes());
        let sectors = disk.size_bytes() / u64::from(config::SECTOR_BYTES);
        let geometry = Geometry { sectors, writable: disk.is_writable() };
        let config = config::space(geometry, queues);
        let (flushes, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { disk, identity, flushes, failed });
        Self { shared, geometry, queues, config }
    }
}

impl Device for Block {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        config::features(self.geometry, self.queues)
    }

    fn agree(&self, features: u64) {
        let flushes = features & (1 << VIRTIO_BLK_F_FLUSH) != 0;
        self.shared.flushes.store(flushes, Ordering::Relaxed);
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn queue_size(&self, _queue: usize) -> u16 {
        BLOCK_RING_SIZE
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn serve(
        &self,
        _queue: usize,
        memory: &Memory,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> Result<LocalBoxFuture<'static, u32>, ChainError> {
        let Command { request, status } = request::parse(memory, chain, self.geometry)?;
        let memory = memory.clone();
        let shared = Arc::clone(&self.shared);
        Ok(async move {
            let (answer, written) = match request {
                Ok(request) => shared.perform(&memory, request).await,
                Err(refused) => (refused, 0),
            };
            match memory.write_obj(answer.code(), status) {
                Ok(()) => written + 1,
                // The segment was checked, and this is the same memory.
                Err(_) => 0,
            }
        }
        .boxed_local())
    }
}

impl Shared {
    /// Does what is asked; the second value is how many bytes before the status byte were written.
    async fn perform(&self, memory: &GuestMemoryMmap, request: Request) -> (Status, u32) {
        match request {
            Request::Read { offset, segments } => {
                let mut target = SegmentTarget::new(memory, &segments);
                let length = u32::try_from(target.remaining()).unwrap_or(0);
                match timeout(REQUEST_DEADLINE, self.disk.read(offset, &mut target)).await {
                    Ok(Ok(())) => return (Status::Ok, length),
                    Ok(Err(error)) => self.tell_failure("read", &error),
                    Err(elapsed) => self.tell_failure("read", &elapsed),
                }
                (Status::IoError, 0)
            }
            Request::Write { offset, segments } => {
                let mut source = SegmentSource::new(memory, &segments);
                let write = async {
                    self.disk.write(offset, &mut source).await?;
                    self.settle().await
                };
                (self.change("write", write).await, 0)
            }
            Request::Discard { ranges } => {
                (self.change("discard", self.zero(ranges, Disk::discard)).await, 0)
            }
            Request::WriteZeroes { ranges } => {
                (self.change("write-zeroes", self.zero(ranges, Disk::write_zeroes)).await, 0)
            }
            Request::Flush => (self.change("flush", self.disk.flush()).await, 0),
            Request::Identity { segments } => {
                match SegmentTarget::new(memory, &segments).put(&self.identity) {
                    Ok(()) => (Status::Ok, u32::try_from(self.identity.len()).unwrap_or(0)),
                    Err(_) => (Status::IoError, 0),
                }
            }
        }
    }

    async fn zero(
        &self,
        ranges: Vec<DiskRange>,
        zero: impl AsyncFn(&Disk, u64, u64) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        for DiskRange { offset, length } in ranges {
            zero(&self.disk, offset, length).await?;
        }
        self.settle().await
    }

    /// Flushes for a driver that cannot.
    async fn settle(&self) -> Result<(), WriteError> {
        if self.flushes.load(Ordering::Relaxed) { Ok(()) } else { self.disk.flush().await }
    }

    async fn change(
        &self,
        what: &'static str,
        change: impl Future<Output = Result<(), WriteError>>,
    ) -> Status {
        match timeout(REQUEST_DEADLINE, change).await {
            Ok(Ok(())) => return Status::Ok,
            Ok(Err(error)) => self.tell_failure(what, &error),
            Err(elapsed) => self.tell_failure(what, &elapsed),
        }
        Status::IoError
    }

    fn tell_failure(&self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        if self.failed.swap(true, Ordering::Relaxed) {
            tracing::debug!(what, error, "a disk request failed");
        } else {
            tracing::warn!(what, error, "a disk request failed; more will not be told");
        }
    }
}
