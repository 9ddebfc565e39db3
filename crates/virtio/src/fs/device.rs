//! A filesystem as a virtio device.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use vfs::fuse::Serve;
use virtio_queue::DescriptorChain;
use vm_memory::GuestMemoryMmap;

use super::request::{self, Request};
use crate::chain::ChainError;
use crate::error::DeviceError;
use crate::limits::{FILESYSTEM_STOP_PATIENCE, MAX_QUEUES};
use crate::memory::Memory;
use crate::vhost_user::{Device, DeviceServer};

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
    if !(1..=MAX_QUEUES).contains(&queues) {
        return Err(DeviceError::Queues(queues));
    }
    DeviceServer::start(socket, Filesystem { server, queues })
}

struct Filesystem {
    server: Arc<dyn Serve>,
    /// Without the one of high priority.
    queues: u16,
}

impl Device for Filesystem {
    type Refusal = ChainError;

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        self.queues + 1
    }

    /// QEMU keeps it, and warns of servers that have one too.
    fn config(&self) -> &[u8] {
        &[]
    }

    fn serve(
        &self,
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
