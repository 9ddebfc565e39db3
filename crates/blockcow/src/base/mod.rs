//! Base images: files that are read and never written.
//!
//! Owns where a byte of the disk lies ([`Place`]), how it is brought into memory, and that an
//! image is sound before anything is read from it.

mod open;
mod qcow2;
mod read;

use std::fs::File;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// An opened base image.
pub(crate) struct Base {
    file: Arc<File>,
    size: u64,
    /// What is fetched at once: a power of two, a multiple of the cluster size.
    block: u64,
    layout: Layout,
    fetches: Arc<Semaphore>,
}

enum Layout {
    /// Disk offsets are file offsets.
    Flat,
    Qcow2(qcow2::Qcow2),
}

/// Where the bytes from some position on come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Zeros,
    /// At this offset of the file.
    File(u64),
    Compressed,
}
