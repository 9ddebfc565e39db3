//! A filesystem as a virtio device.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use vfs::fuse::Serve;
use virtio_bindings::virtio_ids::VIRTIO_ID_FS;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use super::request::{self, Request};
use crate::chain::ChainError;
use crate::error::DeviceError;
use crate::limits::{FILESYSTEM_STOP_PATIENCE, MAX_QUEUES};
use crate::local::LocalDevice;
use crate::memory::{Memory, SharedMemory};
use crate::rings::Device;
use crate::vhost_user::DeviceServer;

/// Serves a filesystem to the front end at the other end of a connected socket, from now on, by a
/// thread of its own and one more while it is connected.
///
/// A driver that begins anew (a guest that was reset, a module loaded again) finds the server
/// reset. Requests that are under way when a ring is stopped get a moment to end. What is not
/// done by then rests, and goes on when the ring does; after a pause, that is.
///
/// `queues` says how many request queues there are, 1 to [`MAX_QUEUES`]; one of high priority comes
/// to them. Linux before 6.9 uses the first only. The tag that the guest mounts the filesystem by
/// is the front end's affair.
///
/// For QEMU the front end is `-chardev socket,id=f0,fd=N` with
/// `-device vhost-user-fs-device,chardev=f0,tag=TAG,num-request-queues=Q,queue-size=1024`. Linux
/// makes no request larger than the queue has descriptors: 1,024 are enough for the largest,
/// 1 MiB, where QEMU's default of 128 is not. The guest's memory must be a memfd that is sealed
/// against shrinking, which `memory-backend-memfd` with `share=on` is by itself.
pub fn serve_filesystem(
    socket: UnixStream,
    server: Arc<dyn Serve>,
    queues: u16,
) -> Result<DeviceServer, DeviceError> {
    // QEMU keeps the configuration, and warns of servers that have one too.
    DeviceServer::start(socket, Filesystem::checked(server, queues, Vec::new())?)
}

/// The same filesystem as a device of a monitor in this process, which the guest mounts by `tag`:
/// 1 to 36 bytes.
pub fn local_filesystem(
    tag: &str,
    server: Arc<dyn Serve>,
    queues: u16,
    memory: &SharedMemory,
) -> Result<LocalDevice, DeviceError> {
    if !(1..=TAG_BYTES).contains(&tag.len()) {
        return Err(DeviceError::Tag(tag.to_owned()));
    }
    // struct virtio_fs_config (virtio 1.2, 5.11.4): the tag, and how many request queues there are.
    let mut config = vec![0; TAG_BYTES];
    config[..tag.len()].copy_from_slice(tag.as_bytes());
    config.extend_from_slice(&u32::from(queues).to_le_bytes());
    LocalDevice::start(VIRTIO_ID_FS, Filesystem::checked(server, queues, config)?, memory)
}

/// Bytes of a tag, filled up with NULs.
const TAG_BYTES: usize = 36;

struct Filesystem {
    server: Arc<dyn Serve>,
    config: Vec<u8>,
    /// Without the one of high priority.
    queues: u16,
}

impl Filesystem {
    fn checked(server: Arc<dyn Serve>, queues: u16, config: Vec<u8>) -> Result<Self, DeviceError> {
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(DeviceError::Queues(queues));
        }
        Ok(Self { server, config, queues })
    }
}

impl Device for Filesystem {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        self.queues + 1
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
        let Request { bytes, mut reply } = request::parse(memory, chain)?;
        let server = Arc::clone(&self.server);
        Ok(async move {
            let length = server.handle(bytes, &mut reply).await;
            // No longer than a chain, which is no longer than 4 GiB.
            u32::try_from(length).unwrap_or(u32::MAX)
        }
        .boxed_local())
    }

    fn stop_patience(&self) -> Duration {
        FILESYSTEM_STOP_PATIENCE
    }

    fn reset(&self) {
        self.server.reset();
    }
}
