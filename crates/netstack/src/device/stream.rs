//! Frames over a stream.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::{Read, would_wait};
use crate::error::Error;
use crate::wire::{FRAME_MAX, Outbox, Sums};

const LENGTH: usize = 4;
/// Room for what one read brings: several of the longest frames.
const BUFFER: usize = 512 * 1024;

/// A socket with frames, and the start of a frame that has not come whole.
#[derive(Debug)]
pub(super) struct FrameSocket {
    socket: UnixStream,
    buffer: Box<[u8]>,
    filled: usize,
}

impl FrameSocket {
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER].into(), filled: 0 })
    }

    pub(super) fn read(&mut self, take: &mut dyn FnMut(&[u8], Sums)) -> Result<Read, Error> {
        let count = match self.socket.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Ok(Read::Ended),
            Ok(count) => count,
            Err(error) if would_wait(&error) => return Ok(Read::Empty),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(Read::Ended);
            }
            Err(error) => return Err(Error::Device(error)),
        };
        self.filled += count;
        let mut rest = &self.buffer[..self.filled];
        while let Some((length, after)) = rest.split_first_chunk::<LENGTH>() {
            let announced = u32::from_be_bytes(*length);
            if announced as usize > FRAME_MAX {
                return Err(Error::FrameLength(announced));
            }
            let Some((frame, after)) = after.split_at_checked(announced as usize) else { break };
            take(frame, Sums::Unknown);
            rest = after;
        }
        let left = rest.len();
        self.buffer.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(Read::More)
    }

    pub(super) fn write(&mut self, outbox: &mut Outbox) -> io::Result<bool> {
        while !outbox.is_empty() {
            match self.socket.write(outbox.waiting()) {
                Ok(count) => outbox.taken(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if would_wait(&error) => return Ok(false),
                // Reading tells that the other side has gone.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    outbox.taken(usize::MAX);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
