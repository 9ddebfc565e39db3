//! The guest's console: the last 256 KiB of it, read by any number of watchers at their own pace.
//!
//! The bytes are the guest's and mean nothing to us, apart from one hint: whether the kernel's
//! panic banner is among them. A watcher holds a position and reads from the ring; one that is
//! slower than the ring misses bytes and is told how many. Nobody waits for a watcher.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use crate::limits::{CONSOLE_PIECE, CONSOLE_RING};

const PANIC_BANNER: &[u8] = b"Kernel panic - not syncing";
const READ_BYTES: usize = 8 * 1024;

/// A ring of console output.
#[derive(Debug)]
pub struct Console {
    ring: Mutex<Ring>,
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    bytes: VecDeque<u8>,
    /// Position, since the beginning of the console, after the last byte.
    end: u64,
}

/// What a watcher gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The next bytes.
    pub data: Bytes,
    /// Bytes that were dropped before them.
    pub skipped: u64,
    /// Position after them, for the next call.
    pub end: u64,
}

impl Default for Console {
    fn default() -> Self {
        Self { ring: Mutex::default(), written: watch::Sender::new(0) }
    }
}

impl Console {
    /// Adds what was printed.
    pub fn push(&self, data: &[u8]) {
        let end = {
            let mut ring = self.lock();
            let kept = &data[data.len().saturating_sub(CONSOLE_RING)..];
            let surplus = (ring.bytes.len() + kept.len()).saturating_sub(CONSOLE_RING);
            ring.bytes.drain(..surplus);
            ring.bytes.extend(kept);
            ring.end += data.len() as u64;
            ring.end
        };
        self.written.send_replace(end);
    }

    /// Reads `source` into the ring until it ends or fails.
    pub async fn fill_from(&self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match source.read(&mut buffer).await {
                Ok(0) => return,
                Ok(count) => self.push(&buffer[..count]),
                Err(error) => {
                    tracing::debug!(%error, "the console ended");
                    return;
                }
            }
        }
    }

    /// A receiver that is told whenever something was added.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// What follows `position`; `None` when nothing does yet. Position 0 means all that is kept,
    /// with nothing counted as skipped.
    pub fn after(&self, position: u64) -> Option<Piece> {
        let ring = self.lock();
        let start = ring.end - ring.bytes.len() as u64;
        let from = position.max(start);
        if from >= ring.end {
            return None;
        }
        let offset = usize::try_from(from - start).expect("at most the ring's length");
        let count = (ring.bytes.len() - offset).min(CONSOLE_PIECE);
        let data: Bytes = ring.bytes.range(offset..offset + count).copied().collect();
        let skipped = if position == 0 { 0 } else { from - position };
        Some(Piece { end: from + data.len() as u64, data, skipped })
    }

    /// The last lines, at most `limit` bytes of valid UTF-8, from the beginning of a line where one
    /// begins in them.
    pub fn tail(&self, limit: usize) -> String {
        let ring = self.lock();
        let skip = ring.bytes.len().saturating_sub(limit);
        let mut bytes: Vec<u8> = ring.bytes.range(skip..).copied().collect();
        drop(ring);
        if skip > 0
            && let Some(line_end) = bytes.iter().position(|byte| *byte == b'\n')
        {
            bytes.drain(..=line_end);
        }
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if text.len() > limit {
            // Each bad byte became three; keep the end.
            let cut = (text.len() - limit..).find(|at| text.is_char_boundary(*at));
            text.drain(..cut.unwrap_or(0));
        }
        text
    }

    /// Whether the kernel's panic banner is in the ring. A hint for people: the guest can print it
    /// as it likes.
    pub fn shows_panic(&self) -> bool {
        let mut ring = self.lock();
        let bytes = ring.bytes.make_contiguous();
        bytes.windows(PANIC_BANNER.len()).any(|window| window == PANIC_BANNER)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watcher_reads_everything_in_order_when_it_keeps_up() {
        let console = Console::default();
        assert_eq!(console.after(0), None);
        console.push(b"one ");
        let first = console.after(0).unwrap();
        assert_eq!((first.data.as_ref(), first.skipped), (&b"one "[..], 0));
        console.push(b"two");
        let second = console.after(first.end).unwrap();
        assert_eq!((second.data.as_ref(), second.skipped, second.end), (&b"two"[..], 0, 7));
        assert_eq!(console.after(second.end), None);
    }

    #[test]
    fn slow_watcher_is_told_what_it_missed_and_late_watcher_missed_nothing() {
        let console = Console::default();
        console.push(b"first");
        let position = console.after(0).unwrap().end;
        for _ in 0..3 {
            console.push(&vec![b'x'; CONSOLE_RING / 2]);
        }
        let piece = console.after(position).unwrap();
        assert_eq!(piece.skipped, (CONSOLE_RING / 2) as u64);
        assert_eq!(piece.data.len(), CONSOLE_PIECE);
        assert_eq!(console.after(0).unwrap().skipped, 0);
    }

    #[test]
    fn one_write_larger_than_the_ring_keeps_its_end() {
        let console = Console::default();
        let mut data = vec![b'a'; CONSOLE_RING + 10];
        data.extend_from_slice(b"end");
        console.push(&data);
        assert!(console.tail(64).ends_with("aend"));
        assert_eq!(console.after(1).unwrap().skipped, 12);
    }

    #[test]
    fn tail_is_whole_lines_of_valid_text_within_its_limit() {
        let console = Console::default();
        console.push(b"a long first line\nsecond\nthird");
        assert_eq!(console.tail(1000), "a long first line\nsecond\nthird");
        assert_eq!(console.tail(15), "second\nthird");
        console.push(&[0xff; 100]);
        let tail = console.tail(50);
        assert!(tail.len() <= 50 && tail.contains('\u{fffd}'));
    }

    #[test]
    fn panic_banner_is_found_wherever_the_ring_wraps() {
        let console = Console::default();
        console.push(&vec![b'.'; CONSOLE_RING - 9]);
        assert!(!console.shows_panic());
        console.push(b"\nKernel panic - not");
        console.push(b" syncing: Attempted to kill init!\n");
        assert!(console.shows_panic());
    }

    #[tokio::test]
    async fn filling_ends_with_its_source() {
        let console = Console::default();
        let mut seen = console.subscribe();
        console.fill_from(&b"hello"[..]).await;
        assert!(seen.has_changed().unwrap());
        assert_eq!(*seen.borrow_and_update(), 5);
    }
}
