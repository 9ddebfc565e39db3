//! The guest's half of a connection that ends in this process.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// The guest reset the connection.
const RESET_BY_GUEST: u8 = 1;
/// The service wants the guest's connection reset.
const RESET_BY_SERVICE: u8 = 2;

/// What the two ends of a [`GuestStream`] know beyond the bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resets(Arc<AtomicU8>);

impl Resets {
    /// To be called before the descriptor is closed.
    pub(crate) fn guest_did(&self) {
        self.0.store(RESET_BY_GUEST, Ordering::Release);
    }

    /// To be asked when the descriptor has ended.
    pub(crate) fn service_did(&self) -> bool {
        self.0.load(Ordering::Acquire) == RESET_BY_SERVICE
    }
}

/// A connection with the guest, as a pair of streams.
///
/// Reading 0 bytes is the guest's FIN; `shutdown` sends ours. A connection that the guest reset
/// fails with [`io::ErrorKind::ConnectionReset`]. Dropping it closes the connection after what was
/// written has been delivered. At most what the socket buffers hold is in flight.
#[derive(Debug)]
pub struct GuestStream {
    socket: UnixStream,
    resets: Resets,
}

impl GuestStream {
    /// A stream and its other end as the data path holds it. Must be called in a runtime.
    pub(crate) fn connected() -> io::Result<(Self, OwnedFd, Resets)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let resets = Resets::default();
        let socket = UnixStream::from_std(ours)?;
        Ok((Self { socket, resets: resets.clone() }, theirs.into(), resets))
    }

    /// A stream whose other end is a plain socket instead of a guest, for tests of services.
    ///
    /// # Errors
    /// When the system has no descriptor left. Must be called in a runtime.
    pub fn pair() -> io::Result<(Self, UnixStream)> {
        let (socket, other) = UnixStream::pair()?;
        Ok((Self { socket, resets: Resets::default() }, other))
    }

    /// Resets the guest's connection; what was written and not delivered yet is lost.
    pub fn reset(self) {
        self.resets.0.store(RESET_BY_SERVICE, Ordering::Release);
    }

    fn was_reset(&self) -> bool {
        self.resets.0.load(Ordering::Acquire) == RESET_BY_GUEST
    }

    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(_) if self.was_reset() => Err(io::ErrorKind::ConnectionReset.into()),
            other => other,
        }
    }
}

impl AsyncRead for GuestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let result = std::task::ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        let ended = result.is_ok() && room && buffer.filled().len() == before;
        if ended && self.was_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(self.told(result))
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = std::task::ready!(Pin::new(&mut self.socket).poll_write(context, bytes));
        Poll::Ready(self.told(result))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result =
            std::task::ready!(Pin::new(&mut self.socket).poll_write_vectored(context, slices));
        Poll::Ready(self.told(result))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = std::task::ready!(Pin::new(&mut self.socket).poll_shutdown(context));
        Poll::Ready(self.told(result))
    }
}
