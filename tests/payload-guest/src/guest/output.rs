//! Text: on the serial port at once, and for the control port in a buffer.

use core::fmt;

use super::sys;

/// The first serial port of a PC.
const SERIAL: u16 = 0x3f8;

/// Writes text to the serial port.
pub(crate) fn serial(text: &str) {
    text.bytes().for_each(|byte| sys::write_port(SERIAL, byte));
}

/// The serial port, for formatted text.
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        serial(text);
        Ok(())
    }
}

/// An answer that is being made. What does not fit makes the write fail.
pub(crate) struct Answer {
    bytes: [u8; Self::SIZE],
    length: usize,
}

impl Answer {
    const SIZE: usize = 16 * 1024;

    pub(crate) fn new() -> Self {
        Self { bytes: [0; Self::SIZE], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Memory as hexadecimal digits.
    pub(crate) fn hexadecimal(&mut self, address: u64, length: u64) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let target = self.bytes.get_mut(self.length..).ok_or(fmt::Error)?;
        let mut digits = target.chunks_exact_mut(2);
        for index in 0..length {
            let byte = sys::read8(address + index);
            let [high, low] = digits.next().ok_or(fmt::Error)? else { return Err(fmt::Error) };
            *high = DIGITS[usize::from(byte >> 4)];
            *low = DIGITS[usize::from(byte & 15)];
            self.length += 2;
        }
        Ok(())
    }
}

impl fmt::Write for Answer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let target = self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?;
        target.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
