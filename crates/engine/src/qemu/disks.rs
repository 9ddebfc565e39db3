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

/// How often the servers are asked whether they have failed.
const LOOK: Duration = Duration::from_secs(1);

/// Servers that end with this value.
#[derive(Debug, Default)]
pub(super) struct Disks {
    servers: Vec<(String, DeviceServer)>,
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
        match served {
            Ok(server) => self.servers.push((serial, server)),
            Err(source) => return Err(StartError::Disk { serial, source }),
        }
        Ok(())
    }

    /// Resolves with a sentence when a disk fails while QEMU runs. Its guest would wait for ever
    /// then: QEMU leaves requests of a lost server unanswered.
    pub(super) async fn failure(&self) -> String {
        if self.servers.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let mut failures = self.servers.iter().filter_map(|(serial, server)| {
                server.failure().map(|error| format!("The disk {serial:?} failed: {error}"))
            });
            if let Some(failure) = failures.next() {
                return failure;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// To be dropped after QEMU is gone.
impl Drop for Disks {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_DEADLINE;
        for (serial, server) in self.servers.drain(..) {
            while !server.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !server.is_finished() {
                tracing::warn!(
                    serial,
                    "a disk is still busy with a read; it ends by itself after that"
                );
                continue;
            }
            if let Err(error) = server.stop() {
                tracing::warn!(serial, %error, "a disk had failed before the machine ended");
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

    fn serve() -> (Disks, UnixStream) {
        let image = tempfile::tempfile().unwrap();
        image.set_len(4096).unwrap();
        let disk = Arc::new(Disk::open(image, ImageFormat::Raw).unwrap());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut disks = Disks::default();
        disks.serve(ours, DiskSpec { serial: "root".to_owned(), disk }, 1).unwrap();
        (disks, theirs)
    }

    #[tokio::test]
    async fn a_front_end_that_breaks_the_protocol_is_a_failure_of_that_disk() {
        let (disks, mut front_end) = serve();
        front_end.write_all(&[0xff; 64]).unwrap();
        let failure = tokio::time::timeout(Duration::from_secs(30), disks.failure()).await;
        let failure = failure.expect("in time");
        assert!(failure.contains("The disk \"root\" failed"), "{failure}");
    }

    #[tokio::test]
    async fn a_front_end_that_hangs_up_is_none() {
        let (disks, front_end) = serve();
        drop(front_end);
        let failure = tokio::time::timeout(Duration::from_millis(50), disks.failure()).await;
        assert!(failure.is_err(), "{failure:?}");
    }

    #[test]
    fn there_is_a_queue_for_each_processor_up_to_four() {
        assert_eq!([1, 2, 4, 5, 64].map(queues), [1, 2, 4, 4, 4]);
    }
}
