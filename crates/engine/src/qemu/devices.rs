//! The devices of a machine that this process serves to QEMU over vhost-user, by threads of its
//! own: disks and filesystems.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use virtio::{BlockOptions, DeviceServer, serve_block, serve_filesystem};

use crate::device_queues::FILESYSTEM_QUEUES;
use crate::error::StartError;
use crate::spec::{DiskSpec, FilesystemSpec};

/// How long the servers may take to end after QEMU has. They see the end of file at once; only a
/// system call that hangs in the host's kernel, or a host that lets nobody run, holds one up.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// How often the servers are asked whether they have failed.
const LOOK: Duration = Duration::from_secs(1);

/// What a server serves, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Disk(String),
    Filesystem(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(serial) => write!(f, "disk {serial:?}"),
            Self::Filesystem(tag) => write!(f, "filesystem {tag:?}"),
        }
    }
}

/// Servers that end with this value.
#[derive(Debug, Default)]
pub(super) struct Devices {
    servers: Vec<(Name, DeviceServer)>,
}

impl Devices {
    /// Serves one more disk at this end of a connected socket.
    pub(super) fn serve_disk(
        &mut self,
        socket: UnixStream,
        spec: DiskSpec,
        queues: u16,
    ) -> Result<(), StartError> {
        let DiskSpec { serial, disk } = spec;
        match serve_block(socket, disk, BlockOptions { serial: serial.clone(), queues }) {
            Ok(server) => self.servers.push((Name::Disk(serial), server)),
            Err(source) => return Err(StartError::Disk { serial, source }),
        }
        Ok(())
    }

    /// Serves one more filesystem at this end of a connected socket.
    pub(super) fn serve_filesystem(
        &mut self,
        socket: UnixStream,
        spec: FilesystemSpec,
    ) -> Result<(), StartError> {
        let FilesystemSpec { tag, server } = spec;
        match serve_filesystem(socket, server, FILESYSTEM_QUEUES) {
            Ok(server) => self.servers.push((Name::Filesystem(tag), server)),
            Err(source) => return Err(StartError::Filesystem { tag, source }),
        }
        Ok(())
    }

    /// Resolves with a sentence when a device fails while QEMU runs. Its guest would wait for ever
    /// then: QEMU leaves requests of a lost server unanswered.
    pub(super) async fn failure(&self) -> String {
        if self.servers.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let mut failures = self.servers.iter().filter_map(|(name, server)| {
                server.failure().map(|error| format!("The {name} failed: {error}"))
            });
            if let Some(failure) = failures.next() {
                return failure;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// To be dropped after QEMU is gone.
impl Drop for Devices {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_DEADLINE;
        for (device, server) in self.servers.drain(..) {
            while !server.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !server.is_finished() {
                tracing::warn!(
                    %device,
                    "a device is still busy with a file; it ends by itself after that"
                );
                continue;
            }
            if let Err(error) = server.stop() {
                tracing::warn!(%device, %error, "a device had failed before the machine ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use blockcow::{Disk, ImageFormat};

    use super::*;

    fn serve() -> (Devices, UnixStream) {
        let image = tempfile::tempfile().unwrap();
        image.set_len(4096).unwrap();
        let disk = Arc::new(Disk::open(image, ImageFormat::Raw).unwrap());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut devices = Devices::default();
        devices.serve_disk(ours, DiskSpec { serial: "root".to_owned(), disk }, 1).unwrap();
        (devices, theirs)
    }

    #[tokio::test]
    async fn a_front_end_that_breaks_the_protocol_is_a_failure_of_that_device() {
        let (devices, mut front_end) = serve();
        front_end.write_all(&[0xff; 64]).unwrap();
        let failure = tokio::time::timeout(Duration::from_secs(30), devices.failure()).await;
        let failure = failure.expect("in time");
        assert!(failure.contains("The disk \"root\" failed"), "{failure}");
    }

    #[tokio::test]
    async fn a_front_end_that_hangs_up_is_none() {
        let (devices, front_end) = serve();
        drop(front_end);
        let failure = tokio::time::timeout(Duration::from_millis(50), devices.failure()).await;
        assert!(failure.is_err(), "{failure:?}");
    }
}
