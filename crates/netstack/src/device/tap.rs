//! A TAP device of this host, with checksum and segmentation offload.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::{Read, would_wait};
use crate::error::Error;
use crate::sys;
use crate::wire::{FRAME_MAX, Outbox, Sums, VNET_HEADER};

/// Frames read before flows are served.
const BATCH: usize = 128;
/// Frames that may wait for us. The default, 1000, is less than the windows of a few connections.
const QUEUE: i32 = 16_384;
/// Flags of a `virtio_net_hdr`: the sum is to be filled in; the sum has been checked.
const VOUCHED: u8 = 1 | 2;

/// A TAP device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    buffer: Box<[u8]>,
}

impl Tap {
    /// Opens a TAP device in the network namespace of the calling thread, and makes it unless it is
    /// there. One that was made goes when it is closed.
    ///
    /// # Errors
    /// When the device may not be made, or the name is no name of a device.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::try_open(name).map_err(|source| Error::Tap { name: name.to_owned(), source })
    }

    fn try_open(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        sys::attach(&file, name)?;
        sys::set_offload(&file)?;
        sys::set_queue_length(&UdpSocket::bind("0.0.0.0:0")?, name, QUEUE)?;
        Ok(Self { file, buffer: vec![0; VNET_HEADER + FRAME_MAX].into() })
    }

    pub(super) fn read(&mut self, take: &mut dyn FnMut(&[u8], Sums)) -> io::Result<Read> {
        for _ in 0..BATCH {
            let count = match self.file.read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if would_wait(&error) => return Ok(Read::Empty),
                // The device is down, or has gone.
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
                    return Ok(Read::Ended);
                }
                Err(error) => return Err(error),
            };
            if let Some((header, frame)) = self.buffer[..count].split_at_checked(VNET_HEADER) {
                let vouched = header[0] & VOUCHED != 0;
                take(frame, if vouched { Sums::Vouched } else { Sums::Unknown });
            }
        }
        Ok(Read::More)
    }

    pub(super) fn write(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        while let Some(frame) = outbox.first() {
            match self.file.write(frame) {
                Ok(_) => outbox.drop_first(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if would_wait(&error) => return Ok(false),
                // An interface that is down takes nothing, as an unplugged cable.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => outbox.drop_first(),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
