//! DNS over TCP (RFC 7766): many queries on a connection, answered in the order in which answers come.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::flow::Flow;

/// Queries of one connection that are worked on at once; the rest waits in the guest's socket.
const AT_ONCE: usize = 32;
/// How long a connection may be quiet.
const IDLE: Duration = Duration::from_secs(30);
/// How long the guest may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(30);

/// Serves one connection to its end. `resolve` answers a message.
pub(super) async fn serve<S, F>(flow: &Flow, stream: S, resolve: impl Fn(Bytes) -> F)
where
    S: AsyncRead + AsyncWrite + Send,
    F: Future<Output = Option<Bytes>>,
{
    if let Err(error) = answer_all(stream, resolve).await {
        tracing::debug!(%error, flow = flow.id.0, "A connection to the resolver ended early");
    }
}

async fn answer_all<S, F>(stream: S, resolve: impl Fn(Bytes) -> F) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send,
    F: Future<Output = Option<Bytes>>,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut read = BytesMut::new();
    let mut pending = FuturesUnordered::new();
    let mut open = true;
    loop {
        while pending.len() < AT_ONCE
            && let Some(query) = take_query(&mut read)
        {
            pending.push(resolve(query));
        }
        if pending.is_empty() && !open {
            return writer.shutdown().await;
        }
        tokio::select! {
            Some(answer) = pending.next(), if !pending.is_empty() => {
                // What is no query ends the connection: its framing cannot be trusted.
                let Some(answer) = answer else { return Ok(()) };
                timeout(UNREAD, write(&mut writer, &answer)).await??;
            }
            length = reader.read_buf(&mut read), if open && pending.len() < AT_ONCE => {
                open = length? > 0;
            }
            () = sleep(IDLE), if pending.is_empty() => return Ok(()),
        }
    }
}

/// The next query that is there as a whole.
fn take_query(read: &mut BytesMut) -> Option<Bytes> {
    let length: usize = u16::from_be_bytes([*read.first()?, *read.get(1)?]).into();
    if read.len() < 2 + length {
        return None;
    }
    read.advance(2);
    Some(read.split_to(length).freeze())
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, answer: &Bytes) -> io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    let mut bytes = BytesMut::with_capacity(2 + answer.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(answer);
    writer.write_all(&bytes).await?;
    writer.flush().await
}
