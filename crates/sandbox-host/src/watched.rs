//! A stream that tells others when its peer was first heard and when the connection is over,
//! whoever owns it. HTTP/2 libraries keep the connection to themselves; this is how the rest of the
//! process learns of its end at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// What happened to a [`Watched`] stream. Each fires once and stays.
#[derive(Debug, Clone, Default)]
pub struct Signs {
    /// A byte has come from the peer.
    pub heard: CancellationToken,
    /// The peer has closed, an error came, or the stream was dropped.
    pub closed: CancellationToken,
}

/// A stream and its [`Signs`]. `K` is kept until the stream is dropped, a permit for example.
#[derive(Debug)]
pub struct Watched<S, K = ()> {
    stream: S,
    signs: Signs,
    _keep: K,
}

impl<S, K> Watched<S, K> {
    /// Watches a stream.
    pub fn new(stream: S, keep: K) -> (Self, Signs) {
        let signs = Signs::default();
        (Self { stream, signs: signs.clone(), _keep: keep }, signs)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.signs.closed.cancel();
        }
        result
    }
}

impl<S, K> Drop for Watched<S, K> {
    fn drop(&mut self) {
        self.signs.closed.cancel();
    }
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for Watched<S, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.signs.heard.cancel();
        } else if buf.remaining() > 0 {
            self.signs.closed.cancel();
        }
        Poll::Ready(self.note(result))
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for Watched<S, K> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.note(result))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(self.note(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.note(result))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S, K> Connected for Watched<S, K> {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn first_byte_and_end_of_file_are_told() {
        let (ours, mut theirs) = duplex(64);
        let (mut watched, signs) = Watched::new(ours, ());
        theirs.write_all(b"x").await.unwrap();
        assert!(!signs.heard.is_cancelled());
        watched.read_u8().await.unwrap();
        assert!(signs.heard.is_cancelled());
        assert!(!signs.closed.is_cancelled());
        drop(theirs);
        assert_eq!(watched.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(signs.closed.is_cancelled());
    }

    #[tokio::test]
    async fn dropping_the_stream_is_told_and_frees_what_it_kept() {
        let (ours, _theirs) = duplex(64);
        let kept = std::sync::Arc::new(());
        let (watched, signs) = Watched::new(ours, kept.clone());
        drop(watched);
        assert!(signs.closed.is_cancelled());
        assert_eq!(std::sync::Arc::strong_count(&kept), 1);
    }

    #[tokio::test]
    async fn a_failed_write_is_told() {
        let (ours, theirs) = duplex(64);
        let (mut watched, signs) = Watched::new(ours, ());
        drop(theirs);
        assert!(watched.write_all(b"x").await.is_err());
        assert!(signs.closed.is_cancelled());
    }
}
