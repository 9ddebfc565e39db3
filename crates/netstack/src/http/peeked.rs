//! A stream whose first bytes have been looked at and are still to be read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::detect::{Detected, detect};
use super::pass_writes::pass_writes;
use crate::tls::{self, ClientHello};

/// Bytes that are looked at.
const MOST: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Rewound<S> {
    first: BytesMut,
    stream: S,
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { first: BytesMut::new(), stream }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// What the other side speaks; `None` when it ended without a word.
    pub(super) async fn detect(&mut self) -> io::Result<Option<Detected>> {
        loop {
            match detect(&self.first) {
                Detected::More if !self.read().await? => {
                    return Ok((!self.first.is_empty()).then_some(Detected::Other));
                }
                Detected::More => (),
                detected => return Ok(Some(detected)),
            }
        }
    }

    /// The ClientHello.
    pub(super) async fn hello(&mut self) -> io::Result<Result<ClientHello, &'static str>> {
        loop {
            match tls::peek(&self.first) {
                tls::Peeked::Hello(hello) => return Ok(Ok(hello)),
                tls::Peeked::Malformed(reason) => return Ok(Err(reason)),
                tls::Peeked::Incomplete if self.first.len() >= MOST => {
                    return Ok(Err("the ClientHello is too long"));
                }
                tls::Peeked::Incomplete => {
                    if !self.read().await? {
                        return Ok(Err("the ClientHello is cut off"));
                    }
                }
            }
        }
    }

    async fn read(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.first).await? > 0)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        if self.first.is_empty() {
            self.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

pass_writes!(Rewound);
