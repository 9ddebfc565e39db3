//! What can be wrong with an image, and with one read.

use std::io;

use crate::store::{AnswerError, StoreError};

/// Why an image was not opened. Each is final for this file: trying again changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file could not be read.
    #[error("The image could not be read")]
    Io(#[from] io::Error),
    /// A directory, device, socket or pipe.
    #[error("The image is not a regular file")]
    NotAFile,
    /// No qcow2 signature.
    #[error("The file is not a qcow2 image")]
    NotQcow2,
    /// Neither version 2 nor 3.
    #[error("The image has qcow2 version {0}; versions 2 and 3 are supported")]
    Version(u32),
    /// Something that the image refers to lies beyond the end of the file.
    #[error("The image is truncated: {what} ends at byte {needed}, but the file has {length}")]
    Truncated {
        /// What is missing.
        what: &'static str,
        /// Where it ends.
        needed: u64,
        /// Length of the file.
        length: u64,
    },
    /// The image is an overlay of another image, which is never opened.
    #[error("The image has a backing file; flatten it first, for example with qemu-img convert")]
    BackingFile,
    /// The data lies in another file, which is never opened.
    #[error("The image keeps its data in another file")]
    ExternalDataFile,
    /// Encrypted, by the method of this number (1: AES, 2: LUKS).
    #[error("The image is encrypted (method {0})")]
    Encrypted(u32),
    /// It was not closed properly.
    #[error("The image has unfinished writes; repair it with qemu-img check -r all")]
    Dirty,
    /// A program found it damaged and said so in it.
    #[error("The image is marked as corrupt")]
    Corrupt,
    /// Not zlib; the number is the header's (1: zstd).
    #[error("The image is compressed by method {0}; only zlib is supported")]
    Compression(u8),
    /// Subclusters.
    #[error("The image has extended L2 entries (subclusters), which are not supported")]
    ExtendedL2,
    /// Feature bits of the header that nobody here knows.
    #[error("The image needs unknown features (bits {0:#x})")]
    UnknownFeatures(u64),
    /// A header field is outside of what the format allows.
    #[error("The image header is invalid: {field} is {value}")]
    Header {
        /// Name of the field in the specification.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A table entry is outside of what the format allows.
    #[error("The image is damaged: {table} entry {index} is {value:#x}")]
    Table {
        /// L1 or L2.
        table: &'static str,
        /// Which entry, counted over the disk.
        index: u64,
        /// Its value.
        value: u64,
    },
    /// No content at all.
    #[error("The disk is empty")]
    Empty,
    /// Not a whole number of sectors.
    #[error("The disk has {0} bytes, which is not a multiple of 512")]
    Unaligned(u64),
    /// Larger than [`crate::limits::MAX_DISK_BYTES`].
    #[error("The disk has {size} bytes, more than the {limit} that are supported")]
    TooLarge {
        /// The disk's size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Its tables would take too much memory.
    #[error("The image's {table} table needs {needed} bytes of memory, more than {limit}")]
    TableTooLarge {
        /// L1 or L2.
        table: &'static str,
        /// Bytes it needs.
        needed: u64,
        /// The limit.
        limit: u64,
    },
    /// The library that reads qcow2 gave up in an unforeseen way.
    #[error("The image could not be understood")]
    Reader,
}

/// Why bytes could not be read. The next read may succeed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The range is not inside the disk.
    #[error("The read at {offset} of {length} bytes is outside of the disk")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// The file could not be read, or what it holds makes no sense.
    #[error("The image could not be read")]
    Io(#[from] io::Error),
    /// The library that reads qcow2 gave up in an unforeseen way.
    #[error("The image could not be understood")]
    Reader,
    /// The store could not give a block that was written.
    #[error("The store could not be read")]
    Store(#[source] StoreError),
}

/// Why bytes could not be changed, or made durable. The next time may succeed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk has no store.
    #[error("The disk is read-only")]
    ReadOnly,
    /// The range is not inside the disk.
    #[error("The write at {offset} of {length} bytes is outside of the disk")]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Not whole sectors of 512 bytes.
    #[error("The write at {offset} of {length} bytes is not one of whole sectors")]
    Unaligned {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// The rest of a block that is written in part could not be read.
    #[error("The rest of a block could not be read")]
    Read(#[from] ReadError),
    /// The bytes could not be taken from where they come from.
    #[error("The bytes could not be taken")]
    Source(#[source] io::Error),
    /// The store did not take this write, or one before it that takes up the room.
    #[error("The store could not be written")]
    Store(#[source] StoreError),
    /// The disk is closed.
    #[error("The disk is closed")]
    Closed,
}

/// Why a disk was not made writable.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// The base is a writable disk itself.
    #[error("The base is a writable disk")]
    Base,
    /// Not a multiple of 512, 0, or more than [`crate::limits::MAX_BATCH_BYTES`].
    #[error("The store's block size {0} must be a multiple of 512 up to 4 MiB")]
    BlockSize(u32),
    /// Not a multiple of 512, less than the base has, or too much.
    #[error("size_bytes {size} must be a multiple of 512 from {base} to {most}")]
    Size {
        /// What was given.
        size: u64,
        /// Size of the base.
        base: u64,
        /// The limit.
        most: u64,
    },
    /// Less than it takes to work.
    #[error("max_dirty_bytes {given} must be at least {least}")]
    MaxDirtyBytes {
        /// What was given.
        given: u64,
        /// What it takes.
        least: u64,
    },
    /// Not 1 to 64.
    #[error("max_write_backs {0} must be 1 to 64")]
    MaxWriteBacks(usize),
    /// No time at all.
    #[error("store_deadline must not be zero")]
    StoreDeadline,
    /// The store could not say what is in it.
    #[error("The store's blocks could not be listed")]
    List(#[from] StoreError),
    /// What the store says is in it cannot be.
    #[error("The store lists wrong blocks")]
    Listed(#[from] AnswerError),
}
