//! The bytes of a request and of its reply, wherever they lie.
//!
//! A virtqueue hands out scattered pieces of guest memory that the guest may change at any time.
//! [`Readable`] and [`Writable`] hold such pieces without ever making a Rust reference to them: all
//! access copies through raw pointers or is a system call, so large reads and writes move once,
//! between the page cache and the guest. What is decided on is copied out first.

mod readable;
mod sys;
mod writable;

pub use readable::Readable;
pub(crate) use sys::ReadMode;
pub use sys::Segment;
pub use writable::{Body, Writable};

#[cfg(test)]
mod tests;
