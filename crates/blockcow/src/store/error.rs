//! What can go wrong with a store.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Its quota, or the device below it, is full. Trying again changes nothing by itself.
    #[error("The store is full")]
    NoSpace,
    /// No answer before the deadline.
    #[error("The store did not answer in time")]
    TimedOut,
    /// The answer is not one to the question.
    #[error("The store gave a wrong answer")]
    Answer(#[from] AnswerError),
    /// The store said no, or its program failed.
    #[error("The store failed: {0}")]
    Rejected(String),
    /// What the store had kept is not what was given to it.
    #[error("Block {block} in the store is damaged")]
    Damaged {
        /// Number of the block.
        block: u64,
    },
    /// An earlier failure left it unknown what is durable. Only opening the store anew tells.
    #[error("The store failed before and must be opened anew")]
    Broken,
    /// A system call failed.
    #[error("The store could not be used")]
    Io(#[source] Arc<io::Error>),
}

impl StoreError {
    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::NoSpace | Self::Damaged { .. } | Self::Broken)
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::NoSpace,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// A block that was asked for, and is in the store, was left out.
    #[error("Block {0} is missing")]
    Missing(u64),
    /// A block that was not asked for.
    #[error("Block {0} was not asked for")]
    Foreign(u64),
    /// The same block twice.
    #[error("Block {0} comes twice")]
    Duplicate(u64),
    /// Not a whole number of blocks, or none.
    #[error("The chunk at block {start} has {length} bytes, which are not whole blocks")]
    Length {
        /// Its first block.
        start: u64,
        /// Its bytes.
        length: usize,
    },
    /// A listed block that lies beyond the end of the disk.
    #[error("Block {0} lies outside of the disk")]
    OutsideDisk(u64),
}
