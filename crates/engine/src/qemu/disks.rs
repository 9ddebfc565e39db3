//! The disks of a machine, each served to QEMU over vhost-user by threads of this process.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use virtio::{BlockOptions, DeviceServer, serve_block};

use crate::error::StartError;
use crate::spec::DiskSpec;

/// Queues of a disk: one for each processor, up to what one service thread keeps busy.
const MAX_QUEUES: u32 = 4;
/// How long a server may take to end after QEMU has. It sees the end of file at once; only a read
/// of the image that is under way holds it up.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// Servers that end with this value.
#[derive(Debug, Default)]
pub(super) struct Disks {
    servers: Vec<DeviceServer>,
}

/// How many queues a disk of a machine with so many processors has.
pub(super) fn queues(cpus: u32) -> u16 {
    u16::try_from(cpus.clamp(1, MAX_QUEUES)).expect("the maximum is small")
}

impl Disks {
    /// Serves one more disk at this end of a connected socket.
    pub(super) fn serve(
        &mut self,
        socket: UnixStream,
        spec: DiskSpec,
        queues: u16,
    ) -> Result<(), StartError> {
        let DiskSpec { serial, disk } = spec;
        let options = BlockOptions { serial: serial.clone(), queues };
        let served = serve_block(socket, disk, options);
        self.servers.push(served.map_err(|source| StartError::Disk { serial, source })?);
        Ok(())
    }
}

/// To be dropped after QEMU is gone.
impl Drop for Disks {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_DEADLINE;
        for server in self.servers.drain(..) {
            while !server.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !server.is_finished() {
                tracing::warn!("a disk is still busy with a read; it ends by itself after that");
                continue;
            }
            if let Err(error) = server.stop() {
                tracing::warn!(%error, "a disk had failed before the machine ended");
            }
        }
    }
}
