//! Where frames come from and go to.
//!
//! Both kinds hold whatever they were given, never wait, and say so when they would have to.

mod stream;
mod tap;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

pub use tap::Tap;

use crate::error::Error;
use crate::wire::{Outbox, Sums};
use stream::FrameSocket;

/// A source and sink of Ethernet frames.
#[derive(Debug)]
pub struct Device(Kind);

#[derive(Debug)]
enum Kind {
    Socket(FrameSocket),
    Tap(Tap),
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// There may be more.
    More,
    /// There is nothing more now.
    Empty,
    /// There will never be more.
    Ended,
}

impl Device {
    /// A connected stream with a length of four bytes, big-endian, before each frame: what QEMU's
    /// `-netdev stream` and krun's unix stream speak.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn frame_socket(socket: UnixStream) -> Result<Self, Error> {
        FrameSocket::new(socket).map(|socket| Self(Kind::Socket(socket))).map_err(Error::Device)
    }

    /// A TAP device.
    #[must_use]
    pub fn tap(tap: Tap) -> Self {
        Self(Kind::Tap(tap))
    }

    /// Whether the device takes segments with unfinished sums, and cuts them.
    pub(crate) fn offloads(&self) -> bool {
        matches!(self.0, Kind::Tap(_))
    }

    /// Hands over a batch of frames.
    pub(crate) fn read(&mut self, take: &mut dyn FnMut(&[u8], Sums)) -> Result<Read, Error> {
        match &mut self.0 {
            Kind::Socket(socket) => socket.read(take),
            Kind::Tap(tap) => tap.read(take).map_err(Error::Device),
        }
    }

    /// Writes as much as can be written. `true`: all of it.
    pub(crate) fn write(&mut self, outbox: &mut Outbox) -> Result<bool, Error> {
        match &mut self.0 {
            Kind::Socket(socket) => socket.write(outbox),
            Kind::Tap(tap) => tap.write(outbox),
        }
        .map_err(Error::Device)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Socket(socket) => socket.as_fd(),
            Kind::Tap(tap) => tap.as_fd(),
        }
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
