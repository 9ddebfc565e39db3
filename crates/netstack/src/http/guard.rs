//! Lets the bytes of HTTP/1 requests through to the parser, head by head, once each is whole and
//! unambiguous.
//!
//! ```text
//!   ┌──────────────────────────────────────────────┐
//!   ▼                                              │
//! Head ──► Length ──────────────────────────────── ┤
//!   │ └──► Size ──► Data ──► DataEnd ──► Size …    │
//!   │        └ 0 ─► Trailers ──────────────────────┘
//!   └ refused: the parser gets what it answers with 400, then the end
//! ```
//!
//! After an upgrade all bytes pass. It owns the deadline for heads, and remembers what was wrong.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::head::{Framing, Malformed, check, check_lines};
use super::pass_writes::pass_writes;

/// Longest line of a chunk's size, extensions included.
const LONGEST_SIZE_LINE: usize = 1_024;
/// Bytes read at once.
const READ: usize = 16 << 10;
/// What the parser answers with 400.
const NONSENSE: &[u8] = b"GET / HTTP/1.1\r\n\0: \r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    /// Nothing passes any more.
    Closed,
}

/// Follows the messages of a connection.
#[derive(Debug)]
struct Follower {
    state: State,
    longest_head: usize,
    /// Bytes of a head or of trailers that have been looked at.
    seen: usize,
}

impl Follower {
    fn new(longest_head: usize) -> Self {
        Self { state: State::Head, longest_head, seen: 0 }
    }

    /// Moves what may pass from `waiting` to `ready`.
    fn advance(&mut self, waiting: &mut BytesMut, ready: &mut BytesMut) -> Result<(), Malformed> {
        loop {
            let before = (self.state, waiting.len());
            match self.state {
                State::Head => self.head(waiting, ready)?,
                State::Length(left) => {
                    let left = pass(left, waiting, ready);
                    self.state = if left == 0 { State::Head } else { State::Length(left) };
                }
                State::Size => self.size(waiting, ready)?,
                State::Data(left) => {
                    let left = pass(left, waiting, ready);
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                }
                State::DataEnd => {
                    let end = &waiting[..waiting.len().min(2)];
                    if !b"\r\n".starts_with(end) {
                        return Err(Malformed::Chunk);
                    }
                    if end.len() == 2 {
                        pass(2, waiting, ready);
                        self.state = State::Size;
                    }
                }
                State::Trailers => self.trailers(waiting, ready)?,
                State::Closed => waiting.clear(),
            }
            if before == (self.state, waiting.len()) {
                return Ok(());
            }
        }
    }

    fn head(&mut self, waiting: &mut BytesMut, ready: &mut BytesMut) -> Result<(), Malformed> {
        let Some(length) = self.end_of_lines(waiting)? else { return Ok(()) };
        let framing = check(&waiting[..length])?;
        pass(length as u64, waiting, ready);
        self.state = match framing {
            Framing::Length(0) => State::Head,
            Framing::Length(left) => State::Length(left),
            Framing::Chunked => State::Size,
        };
        Ok(())
    }

    fn trailers(&mut self, waiting: &mut BytesMut, ready: &mut BytesMut) -> Result<(), Malformed> {
        if waiting.starts_with(b"\r\n") {
            pass(2, waiting, ready);
            self.state = State::Head;
            return Ok(());
        }
        if waiting.len() < 2 {
            return Ok(());
        }
        let Some(length) = self.end_of_lines(waiting)? else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; super::head::MOST_HEADERS];
        match httparse::parse_headers(&waiting[..length], &mut fields) {
            Ok(httparse::Status::Complete(_)) => (),
            _ => return Err(Malformed::Syntax),
        }
        pass(length as u64, waiting, ready);
        self.state = State::Head;
        Ok(())
    }

    /// Where the empty line ends, if it is there.
    fn end_of_lines(&mut self, waiting: &BytesMut) -> Result<Option<usize>, Malformed> {
        let from = self.seen.saturating_sub(3);
        let end = waiting[from..].windows(4).position(|part| part == b"\r\n\r\n");
        let length = end.map_or(waiting.len(), |end| from + end + 4);
        if length > self.longest_head {
            return Err(Malformed::TooLong);
        }
        // A line that ends otherwise would be waited on until the deadline.
        let last = from.checked_sub(1).map_or(0, |at| waiting[at]);
        check_lines(&waiting[from..length], last)?;
        self.seen = if end.is_some() { 0 } else { length };
        Ok(end.map(|_| length))
    }

    fn size(&mut self, waiting: &mut BytesMut, ready: &mut BytesMut) -> Result<(), Malformed> {
        let line = &waiting[..waiting.len().min(LONGEST_SIZE_LINE)];
        let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
            let wrong = line.len() == LONGEST_SIZE_LINE || line.contains(&0);
            return if wrong { Err(Malformed::Chunk) } else { Ok(()) };
        };
        let line = line[..end].strip_suffix(b"\r").ok_or(Malformed::Chunk)?;
        if line.iter().any(|&byte| byte == b'\r' || byte == 0) {
            return Err(Malformed::Chunk);
        }
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or(Malformed::Chunk)?;
        pass(end as u64 + 1, waiting, ready);
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(())
    }

    fn at_head(&self) -> bool {
        matches!(self.state, State::Head)
    }
}

/// Moves up to `left` bytes; what is left after.
fn pass(left: u64, waiting: &mut BytesMut, ready: &mut BytesMut) -> u64 {
    let most = usize::try_from(left).unwrap_or(usize::MAX).min(waiting.len());
    ready.extend_from_slice(&waiting[..most]);
    waiting.advance(most);
    left - most as u64
}

/// What the owner of a guarded stream shares with it.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    raw: Arc<AtomicBool>,
    wrong: Arc<Mutex<Option<Malformed>>>,
}

impl Watch {
    /// From now on all bytes pass.
    pub(super) fn upgrade(&self) {
        self.raw.store(true, Ordering::Release);
    }

    /// What was wrong.
    pub(super) fn wrong(&self) -> Option<Malformed> {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_wrong(&self, wrong: Malformed) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(wrong);
    }
}

/// A stream whose reading half passes only what is unambiguous.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    follower: Follower,
    waiting: BytesMut,
    ready: BytesMut,
    deadline: Option<Pin<Box<Sleep>>>,
    head_deadline: Duration,
    ended: bool,
    watch: Watch,
}

impl<S> Guarded<S> {
    pub(super) fn new(
        stream: S,
        longest_head: usize,
        head_deadline: Duration,
        watch: Watch,
    ) -> Self {
        Self {
            stream,
            follower: Follower::new(longest_head),
            waiting: BytesMut::new(),
            ready: BytesMut::new(),
            deadline: None,
            head_deadline,
            ended: false,
            watch,
        }
    }

    fn refuse(&mut self, wrong: Malformed) -> io::Result<()> {
        self.watch.set_wrong(wrong);
        let in_head = self.follower.at_head();
        self.follower.state = State::Closed;
        self.waiting.clear();
        self.ended = true;
        if !in_head || wrong == Malformed::TooSlow {
            return Err(io::Error::new(io::ErrorKind::InvalidData, wrong));
        }
        self.ready.extend_from_slice(NONSENSE);
        Ok(())
    }

    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready[..length]);
        self.ready.advance(length);
        length > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.raw.load(Ordering::Acquire) && !this.waiting.is_empty() {
            let waiting = this.waiting.split();
            this.ready.extend_from_slice(&waiting);
        }
        loop {
            if buffer.remaining() == 0 || this.deliver(buffer) || this.ended {
                return Poll::Ready(Ok(()));
            }
            if this.watch.raw.load(Ordering::Acquire) {
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            }
            let mut chunk = [0; READ];
            let mut read = ReadBuf::new(&mut chunk);
            match Pin::new(&mut this.stream).poll_read(context, &mut read) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    let Some(deadline) = this.deadline.as_mut() else { return Poll::Pending };
                    ready!(deadline.as_mut().poll(context));
                    this.refuse(Malformed::TooSlow)?;
                    continue;
                }
            }
            this.ended = read.filled().is_empty();
            this.waiting.extend_from_slice(read.filled());
            if let Err(wrong) = this.follower.advance(&mut this.waiting, &mut this.ready) {
                this.refuse(wrong)?;
            }
            if !this.follower.at_head() || this.waiting.is_empty() {
                this.deadline = None;
            } else if this.deadline.is_none() {
                this.deadline = Some(Box::pin(sleep(this.head_deadline)));
            }
        }
    }
}

pass_writes!(Guarded);

/// Follows messages as they arrive in two parts. What passes is the same wherever they are cut.
pub(super) fn fuzz(bytes: &[u8]) -> (usize, bool) {
    let run = |parts: &[&[u8]]| {
        let mut follower = Follower::new(8 << 10);
        let (mut waiting, mut ready) = (BytesMut::new(), BytesMut::new());
        for part in parts {
            waiting.extend_from_slice(part);
            if follower.advance(&mut waiting, &mut ready).is_err() {
                return (ready.len(), false);
            }
        }
        (ready.len(), true)
    };
    let whole = run(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let cut = run(&[first, second]);
    assert_eq!(whole.1, cut.1, "a cut changes what is refused");
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(parts: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
        let mut follower = Follower::new(1_024);
        let (mut waiting, mut ready) = (BytesMut::new(), BytesMut::new());
        for part in parts {
            waiting.extend_from_slice(part);
            follower.advance(&mut waiting, &mut ready)?;
        }
        Ok(ready.to_vec())
    }

    const PIPELINE: &[u8] = b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        4;x=y\r\nabcd\r\n0\r\nX-Sum: 1\r\n\r\n\
        POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\r\n\n\
        POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
        GET /4 HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn a_head_passes_as_a_whole_or_not_at_all() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(passed(&[&head[..20]]), Ok(Vec::new()));
        assert_eq!(passed(&[&head[..20], &head[20..]]), Ok(head.to_vec()));
        assert_eq!(passed(&[b"GET / HTTP/1.1\r\nHost: a\n"]), Err(Malformed::LineEnd));
        assert_eq!(passed(&[&[b'a'; 1_025]]), Err(Malformed::TooLong));
    }

    #[test]
    fn a_second_request_hidden_in_a_chunk_is_seen() {
        let start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for wrong in [
            "4\nabcd\r\n",
            "4\r\nabcdX\r\n",
            "0x4\r\n",
            "-4\r\n",
            "\r\n",
            "4 4\r\n",
            "g\r\n",
            "11111111111111111\r\n",
        ] {
            let bytes = [start, wrong.as_bytes()].concat();
            assert_eq!(passed(&[&bytes]), Err(Malformed::Chunk), "{wrong:?}");
        }
        let folded = [&start[..], b"0\r\nX: y\r\n z\r\n\r\n"].concat();
        assert_eq!(passed(&[&folded]), Err(Malformed::Folded));
    }

    proptest! {
        #[test]
        fn a_pipeline_passes_wherever_it_is_cut(first in 0..PIPELINE.len(), second in 0..PIPELINE.len()) {
            let (first, second) = (first.min(second), first.max(second));
            let parts = [&PIPELINE[..first], &PIPELINE[first..second], &PIPELINE[second..]];
            prop_assert_eq!(passed(&parts), Ok(PIPELINE.to_vec()));
        }
    }
}
