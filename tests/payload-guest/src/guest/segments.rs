//! Chains as the host writes them, one word a descriptor:
//!
//! ```text
//! o:HEX          these bytes, for the device to read
//! p:LENGTH:SEED  words that count up, for the device to read
//! i:LENGTH       for the device to write, filled with 0xff before
//! ```

use core::fmt::Write;

use super::output::Answer;
use super::queue::{NEXT, Queue, WRITE};
use super::words::{Words, byte, number};
use super::{DATA, DATA_END, Problem, sys};

/// Memory for chains, cut from the front.
pub(crate) struct Memory {
    next: u64,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { next: DATA }
    }

    /// All of it is free again.
    pub(crate) fn clear(&mut self) {
        self.next = DATA;
    }

    fn cut(&mut self, length: u64) -> Result<u64, Problem> {
        if length > DATA_END - self.next {
            return Err("there is no memory left; take what is under way");
        }
        let address = self.next;
        self.next += length.next_multiple_of(16);
        Ok(address)
    }
}

/// Builds a chain of the words that are left, and tells its head.
pub(crate) fn build(
    words: &mut Words<'_>,
    queue: &mut Queue,
    memory: &mut Memory,
) -> Result<u16, Problem> {
    let mut chain: Option<(u16, u16)> = None;
    while let Some(word) = words.next() {
        let (address, length, flags) = segment(word, memory)?;
        let index = queue.allocate()?;
        queue.write(index, address, length, flags, 0);
        if let Some((_, last)) = chain {
            let (address, length, flags, _) = queue.read(last);
            queue.write(last, address, length, flags | NEXT, index);
        }
        chain = Some((chain.map_or(index, |(head, _)| head), index));
    }
    chain.map(|(head, _)| head).ok_or("a chain has at least one segment")
}

fn segment(word: &str, memory: &mut Memory) -> Result<(u64, u32, u16), Problem> {
    let (kind, rest) = word.split_once(':').ok_or("a segment begins with o:, p: or i:")?;
    match kind {
        "o" => {
            let digits = rest.as_bytes();
            let length = digits.len() as u64 / 2;
            let address = memory.cut(length)?;
            for (index, digits) in digits.chunks(2).enumerate() {
                sys::write8(address + index as u64, byte(digits)?);
            }
            Ok((address, length as u32, 0))
        }
        "p" => {
            let (length, seed) = rest.split_once(':').ok_or("the seed is missing")?;
            let length = number(length)?;
            let address = memory.cut(length)?;
            sys::fill_pattern(address, length, number(seed)?);
            Ok((address, length as u32, 0))
        }
        "i" => {
            let length = number(rest)?;
            let address = memory.cut(length)?;
            sys::fill(address, length, 0xff);
            Ok((address, length as u32, WRITE))
        }
        _ => Err("a segment begins with o:, p: or i:"),
    }
}

/// Tells what the device was to write: each segment's length, sum, and first bytes.
pub(crate) fn tell(queue: &Queue, head: u16, answer: &mut Answer) -> Result<(), Problem> {
    const SHOWN: u64 = 256;
    let mut index = head;
    for _ in 0..queue.size {
        let (address, length, flags, next) = queue.read(index);
        if flags & WRITE != 0 {
            let sum = sys::checksum(address, length.into());
            let told = write!(answer, "in {length} {sum:#x} ")
                .and_then(|()| answer.hexadecimal(address, SHOWN.min(length.into())))
                .and_then(|()| answer.write_str("\n"));
            told.map_err(|_| "the answer is too long")?;
        }
        if flags & NEXT == 0 {
            break;
        }
        index = next;
    }
    Ok(())
}
