//! What can end a stack, or keep it from starting.

use std::io;

/// A failure of a stack.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option has a value that it cannot have.
    #[error("Option {option}: {problem}")]
    Option {
        /// Name of the field.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A TAP device could not be opened.
    #[error("Cannot open the TAP device \"{name}\"")]
    Tap {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The system refused something that every stack needs.
    #[error("Cannot set up the {what}")]
    Setup {
        /// What was to be made.
        what: &'static str,
        /// Why it was refused.
        source: io::Error,
    },
    /// Reading or writing frames failed.
    #[error("The frame device failed")]
    Device(#[source] io::Error),
    /// A length on the frame socket that no frame has: the two sides have lost each other.
    #[error("A frame of {0} bytes was announced")]
    FrameLength(u32),
    /// The data path ended without saying why.
    #[error("The data path panicked")]
    Panicked,
}
