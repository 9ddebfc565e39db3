//! Why a device ended, and what can be wrong with a guest's memory.

use std::io;

/// Why a device was not served, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not 1 to 20 printable ASCII characters.
    #[error("The serial {0:?} must have 1 to 20 printable ASCII characters")]
    Serial(String),
    /// Not 1 to [`crate::limits::MAX_QUEUES`].
    #[error("The device cannot have {0} queues; 1 to 16 are possible")]
    Queues(u16),
    /// Not 1 to 36 bytes.
    #[error("The tag {0:?} must have 1 to 36 bytes")]
    Tag(String),
    /// A driver set up a ring that cannot be.
    #[error("The driver set up an impossible ring")]
    Ring(#[source] virtio_queue::Error),
    /// A thread, socket or event loop could not be made.
    #[error("The device could not be started")]
    Start(#[source] io::Error),
    /// The front end broke the protocol, or asked for what is not possible.
    #[error("The front end's request {0}")]
    Protocol(String),
    /// The thread of the device ended by itself, which is a defect.
    #[error("The device ended unexpectedly")]
    Panicked,
}

/// Why memory that the front end shares is not used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// More than [`crate::limits::MAX_MEMORY_REGIONS`].
    #[error("The guest memory has {0} regions")]
    TooManyRegions(usize),
    /// More than [`crate::limits::MAX_MEMORY_BYTES`] in all.
    #[error("The guest memory is too large")]
    TooLarge,
    /// Size 0, or an end beyond what 64 bits can say.
    #[error("The memory region at {address:#x} with {size} bytes is impossible")]
    Region {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// Two regions share addresses.
    #[error("Two memory regions overlap at {0:#x}")]
    Overlap(u64),
    /// Touching what a file does not have ends the process.
    #[error("The memory region needs {needed} bytes of a file that has {length}")]
    FileTooShort {
        /// Where the region ends in the file.
        needed: u64,
        /// Length of the file.
        length: u64,
    },
    /// A file that can be cut later, which would end this process at its next touch.
    #[error("The memory is not a memfd that is sealed against shrinking")]
    NotSealed,
    /// It cannot be examined or mapped.
    #[error("The memory could not be mapped")]
    Map(#[source] io::Error),
}
