//! What passes between PID 1 and a worker.
//!
//! ```text
//! kind (1 byte) │ length (4 bytes, little endian) │ payload
//! ```
//! To the worker: the method with its request (or, for an upload, with nothing), then for an upload
//! items and an end. From it: items, then an end or a failure (errno, 4 bytes, and text).

use std::io::{self, Read, Write};

use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::operations::Failure;
use crate::limits::MAX_REQUEST;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message.
    Item,
    /// No more of them.
    End,
    /// The operation has failed.
    Failed,
    /// Begin with this.
    Method(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Item => 128,
            Self::End => 129,
            Self::Failed => 130,
            Self::Method(number) => number,
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            128 => Self::Item,
            129 => Self::End,
            130 => Self::Failed,
            number => Self::Method(number),
        }
    }
}

fn header(kind: Kind, payload: &[u8]) -> [u8; 5] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let [a, b, c, d] = length.to_le_bytes();
    [kind.byte(), a, b, c, d]
}

fn parse([kind, length @ ..]: [u8; 5]) -> io::Result<(Kind, usize)> {
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_REQUEST {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok((Kind::of(kind), length))
}

/// Writes a frame, in a worker.
pub(crate) fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    to.write_all(&header(kind, payload))?;
    to.write_all(payload)
}

/// Reads a frame, in a worker.
pub(crate) fn read(from: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes)?;
    let (kind, length) = parse(bytes)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok((kind, payload))
}

/// Sends a frame, in PID 1.
pub(crate) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    payload: &[u8],
) -> io::Result<()> {
    to.write_all(&header(kind, payload)).await?;
    to.write_all(payload).await
}

/// Receives a frame, in PID 1.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut bytes = [0; 5];
    from.read_exact(&mut bytes).await?;
    let (kind, length) = parse(bytes)?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

/// A failure as a payload.
pub(crate) fn encode(failure: &Failure) -> Vec<u8> {
    let mut payload = (failure.errno as i32).to_le_bytes().to_vec();
    payload.extend(failure.message.bytes().take(1024));
    payload
}

/// A payload as a failure.
pub(crate) fn decode(payload: &[u8]) -> Failure {
    match payload.split_first_chunk::<4>() {
        Some((errno, text)) => Failure {
            errno: Errno::from_raw(i32::from_le_bytes(*errno)),
            message: String::from_utf8_lossy(text).into_owned(),
        },
        None => Failure { errno: Errno::EIO, message: "Malformed answer".to_owned() },
    }
}
