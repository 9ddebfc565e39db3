//! Opening a base image.

use std::fmt;
use std::fs::File;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Base, Layout, qcow2};
use crate::disk::ImageFormat;
use crate::error::OpenError;
use crate::limits::{FETCHES_PER_DISK, MAX_DISK_BYTES, RAW_BLOCK_BYTES, SECTOR_BYTES};

impl Base {
    pub(crate) fn open(file: File, format: ImageFormat) -> Result<Self, OpenError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile);
        }
        let (size, block, layout) = match format {
            ImageFormat::Raw => {
                check_size(metadata.len())?;
                (metadata.len(), RAW_BLOCK_BYTES, Layout::Flat)
            }
            ImageFormat::Qcow2 => {
                let image = qcow2::Qcow2::open(&file, metadata.len())?;
                (image.size(), image.block(), Layout::Qcow2(image))
            }
        };
        let fetches = Arc::new(Semaphore::new(FETCHES_PER_DISK));
        Ok(Self { file: Arc::new(file), size, block, layout, fetches })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// The size a guest would see.
pub(super) fn check_size(size: u64) -> Result<(), OpenError> {
    match size {
        0 => Err(OpenError::Empty),
        _ if !size.is_multiple_of(SECTOR_BYTES) => Err(OpenError::Unaligned(size)),
        _ if size > MAX_DISK_BYTES => Err(OpenError::TooLarge { size, limit: MAX_DISK_BYTES }),
        _ => Ok(()),
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match self.layout {
            Layout::Flat => "raw",
            Layout::Qcow2(_) => "qcow2",
        };
        formatter.debug_struct("Base").field("format", &format).field("size", &self.size).finish()
    }
}
