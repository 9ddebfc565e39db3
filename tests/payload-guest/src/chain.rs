//! Chains as the guest understands them.

use std::fmt::Write;

/// A chain of descriptors, from front to back.
#[derive(Debug, Clone, Default)]
pub struct Chain(String);

impl Chain {
    /// One that begins with bytes for the device to read.
    pub fn out(bytes: &[u8]) -> Self {
        Self::default().and_out(bytes)
    }

    /// One that begins with room for the device to write.
    pub fn input(length: usize) -> Self {
        Self::default().and_input(length)
    }

    /// These bytes for the device to read; at most some thousands, for they become text.
    #[must_use]
    pub fn and_out(mut self, bytes: &[u8]) -> Self {
        self.0.push_str(" o:");
        bytes.iter().for_each(|byte| write!(self.0, "{byte:02x}").expect("memory takes text"));
        self
    }

    /// [`crate::pattern`] for the device to read.
    #[must_use]
    pub fn and_pattern(mut self, length: usize, seed: u64) -> Self {
        write!(self.0, " p:{length}:{seed:#x}").expect("memory takes text");
        self
    }

    /// Room for the device to write.
    #[must_use]
    pub fn and_input(mut self, length: usize) -> Self {
        write!(self.0, " i:{length}").expect("memory takes text");
        self
    }

    /// As words of a command, with a space before each.
    pub fn words(&self) -> &str {
        &self.0
    }
}
