//! The other end of a connection: a host socket, or a stream that ends in this process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use socket2::SockRef;

use crate::stream::Resets;

/// A non-blocking stream socket.
#[derive(Debug)]
pub(crate) struct Upstream {
    socket: OwnedFd,
    /// There for a stream that ends in this process.
    resets: Option<Resets>,
}

/// What reading or writing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Bytes(usize),
    /// Nothing, for now.
    NotNow,
    /// The other side writes, or reads, no more.
    Ended,
    /// The connection is gone.
    Reset,
}

impl Upstream {
    /// A connected host socket.
    pub(crate) fn socket(socket: OwnedFd) -> Self {
        Self { socket, resets: None }
    }

    /// A stream of this process.
    pub(crate) fn local(socket: OwnedFd, resets: Resets) -> Self {
        Self { socket, resets: Some(resets) }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Moved {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) if self.service_reset() => Moved::Reset,
            Ok(0) => Moved::Ended,
            Ok(count) => Moved::Bytes(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Moved::NotNow,
            // A service that leaves without reading everything is done all the same.
            Err(Errno::ECONNRESET) if self.resets.is_some() && !self.service_reset() => {
                Moved::Ended
            }
            Err(_) => Moved::Reset,
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Moved {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.socket.as_raw_fd(), bytes, flags) {
            Ok(count) => Moved::Bytes(count),
            Err(Errno::EAGAIN | Errno::EINTR) => Moved::NotNow,
            Err(_) if self.service_reset() => Moved::Reset,
            Err(Errno::EPIPE) => Moved::Ended,
            Err(Errno::ECONNRESET) if self.resets.is_some() => Moved::Ended,
            Err(_) => Moved::Reset,
        }
    }

    fn service_reset(&self) -> bool {
        self.resets.as_ref().is_some_and(Resets::service_did)
    }

    /// Ends our half. A socket that is gone already says so when it is read.
    pub(super) fn finish(&self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// To be called before the socket is dropped when the guest reset the connection.
    pub(crate) fn reset(&self) {
        match &self.resets {
            Some(resets) => resets.guest_did(),
            // A linger of 0 makes the close a reset. Without it the close is an ordinary one.
            None => {
                let _: io::Result<()> =
                    SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
