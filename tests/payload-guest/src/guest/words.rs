//! A line of the host's, word for word.

use super::Problem;

/// The words of a line, from left to right.
#[derive(Clone)]
pub(crate) struct Words<'a>(core::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self(line.split_ascii_whitespace())
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// The next word, which must be a number.
    pub(crate) fn number(&mut self) -> Result<u64, Problem> {
        number(self.next().ok_or("a number is missing")?)
    }

    /// The next word, or what stands for it.
    pub(crate) fn number_or(&mut self, default: u64) -> Result<u64, Problem> {
        self.next().map_or(Ok(default), number)
    }
}

/// A number, decimal or hexadecimal after `0x`.
pub(crate) fn number(text: &str) -> Result<u64, Problem> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "this is not a number")
}

/// A byte of two hexadecimal digits.
pub(crate) fn byte(digits: &[u8]) -> Result<u8, Problem> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err("this is not a hexadecimal digit"),
    };
    match digits {
        [high, low] => Ok(digit(*high)? << 4 | digit(*low)?),
        _ => Err("half a byte"),
    }
}
