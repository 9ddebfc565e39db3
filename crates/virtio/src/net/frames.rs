//! The stream of frames. Both halves may be left at any moment and go on where they were.

use std::io;

use tokio::net::UnixStream;

use crate::limits::MAX_FRAME;

/// Bytes of a frame's length.
const PREFIX: usize = 4;
/// Room for some frames of the usual size, or one of the largest.
const BUFFER: usize = 128 << 10;

/// What comes from the socket.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    /// What of it is not taken yet.
    begin: usize,
    end: usize,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BUFFER], begin: 0, end: 0 }
    }

    /// The next frame. An error is the end of the stream.
    pub(super) async fn next(&mut self, socket: &UnixStream) -> io::Result<&[u8]> {
        loop {
            if let Some(length) = self.ready()? {
                let frame = self.begin + PREFIX;
                self.begin = frame + length;
                return Ok(&self.bytes[frame..frame + length]);
            }
            self.make_room();
            socket.readable().await?;
            match socket.try_read(&mut self.bytes[self.end..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Length of the frame that is there as a whole.
    fn ready(&self) -> io::Result<Option<usize>> {
        let there = &self.bytes[self.begin..self.end];
        let Some(prefix) = there.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        Ok((there.len() >= PREFIX + length).then_some(length))
    }

    fn make_room(&mut self) {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.begin > 0 && self.bytes.len() - self.begin < PREFIX + MAX_FRAME {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
    }
}

/// What goes to the socket.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// Sends what of an earlier frame is left, then a frame, which `fill` appends. An error is the
    /// end of the stream.
    pub(super) async fn send(
        &mut self,
        socket: &UnixStream,
        length: u32,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.flush(socket).await?;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.resize(PREFIX + length as usize, 0);
        if let Err(error) = fill(&mut self.bytes[PREFIX..]) {
            self.bytes.clear();
            return Err(error);
        }
        self.flush(socket).await
    }

    async fn flush(&mut self, socket: &UnixStream) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match socket.try_write(&self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn frames_come_whole_and_in_order_however_the_bytes_arrive() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let sizes = [0usize, 1, 60, 1514, MAX_FRAME, 9000, MAX_FRAME, 3];
        let writer = tokio::spawn(async move {
            for (index, size) in sizes.iter().enumerate() {
                let mut bytes = u32::try_from(*size).unwrap().to_be_bytes().to_vec();
                bytes.resize(PREFIX + size, u8::try_from(index).unwrap());
                for piece in bytes.chunks(7_001) {
                    theirs.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut incoming = Incoming::new();
        for (index, size) in sizes.iter().enumerate() {
            // Given up and begun anew, as a driver's reset does.
            let _ = tokio::time::timeout(Duration::ZERO, async {
                tokio::task::yield_now().await;
                std::future::pending::<()>().await;
            })
            .await;
            let frame = incoming.next(&ours).await.unwrap();
            assert_eq!(frame.len(), *size);
            assert!(frame.iter().all(|byte| usize::from(*byte) == index));
        }
        writer.await.unwrap();
        assert!(incoming.next(&ours).await.is_err(), "the end");
    }

    #[tokio::test]
    async fn a_length_that_no_frame_has_is_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        let error = Incoming::new().next(&ours).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_frame_that_was_given_up_half_sent_is_sent_before_the_next() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut outgoing = Outgoing::default();
        let mut count = 0u8;
        // Until the socket is full and one is left half sent.
        while outgoing
            .send(&ours, 60_000, |bytes| {
                bytes.fill(count);
                Ok(())
            })
            .now_or_never()
            .is_some()
        {
            count += 1;
        }
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        outgoing.send(&ours, 0, |_| Ok(())).await.unwrap();
        drop(ours);
        let all = reader.await.unwrap();
        let frame = PREFIX + 60_000;
        assert_eq!(all.len(), (usize::from(count) + 1) * frame + PREFIX);
        for (index, bytes) in all.chunks(frame).take(usize::from(count) + 1).enumerate() {
            assert_eq!(bytes[..PREFIX], 60_000u32.to_be_bytes());
            assert!(bytes[PREFIX..].iter().all(|byte| usize::from(*byte) == index));
        }
    }
}
