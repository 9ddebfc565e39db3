//! A disk: what the guest sees as one range of bytes.

use std::fs::File;

use crate::base::Base;
use crate::error::{OpenError, ReadError};
use crate::target::ReadTarget;

/// How an image file is laid out. Never guessed from the content, which a guest may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// QEMU's format, versions 2 and 3.
    Qcow2,
    /// The bytes of the disk as they are.
    Raw,
}

/// A disk: a base image that is never written. Shared by any number of readers.
#[derive(Debug)]
pub struct Disk {
    base: Base,
}

impl Disk {
    /// Opens an image that the caller has opened for reading (and checked, on this descriptor).
    /// The file must not change while the disk is in use.
    ///
    /// All tables of a qcow2 image are read and checked here, so a truncated image is found now
    /// and not by the guest; this takes about a millisecond for each GiB. Blocks the thread.
    pub fn open(file: File, format: ImageFormat) -> Result<Self, OpenError> {
        Base::open(file, format).map(|base| Self { base })
    }

    /// Size that the guest sees; a multiple of 512, at least 512.
    pub fn size_bytes(&self) -> u64 {
        self.base.size()
    }

    /// Fills the target from `offset` on.
    ///
    /// The first poll serves all that is in memory, so a read that hits the caches never leaves
    /// the thread; the rest is fetched by tokio's blocking threads. Must run inside a tokio
    /// runtime. May be dropped at any time. After an error the target is filled in part.
    pub async fn read(&self, offset: u64, target: &mut impl ReadTarget) -> Result<(), ReadError> {
        self.base.read(offset, target).await
    }
}
