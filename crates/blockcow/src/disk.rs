//! A disk: what the guest sees as one range of bytes.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::AbortHandle;

use crate::base::Base;
use crate::error::{OpenError, OverlayError, ReadError, WriteError};
use crate::overlay::{Overlay, OverlayOptions};
use crate::source::WriteSource;
use crate::store::{BlockStore, StoreContext};
use crate::target::ReadTarget;

/// How an image file is laid out. Never guessed from the content, which a guest may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// QEMU's format, versions 2 and 3.
    Qcow2,
    /// The bytes of the disk as they are.
    Raw,
}

/// A disk: a base image that is never written and, if it is writable, a store with the blocks
/// that were. Shared by any number of readers and writers.
///
/// Dropping a writable disk loses what was not flushed, as a power failure does, and leaves
/// nothing running. [`Disk::close`] flushes first.
#[derive(Debug)]
pub struct Disk {
    base: Arc<Base>,
    written: Option<Written>,
    moved: Moved,
}

/// Bytes that were read and written so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written, without what was discarded or zeroed.
    pub written: u64,
}

#[derive(Debug, Default)]
struct Moved {
    read: AtomicU64,
    written: AtomicU64,
}

#[derive(Debug)]
struct Written {
    overlay: Arc<Overlay>,
    write_back: AbortHandle,
}

impl Disk {
    /// Opens an image that the caller has opened for reading (and checked, on this descriptor).
    /// The file must not change while the disk is in use.
    ///
    /// All tables of a qcow2 image are read and checked here, so a truncated image is found now
    /// and not by the guest; this takes about a millisecond for each GiB. Blocks the thread.
    pub fn open(file: File, format: ImageFormat) -> Result<Self, OpenError> {
        Base::open(file, format).map(|base| Self {
            base: Arc::new(base),
            written: None,
            moved: Moved::default(),
        })
    }

    /// A writable disk over this one, whose changed blocks are kept by the store. What the store
    /// has already is seen on the disk. Any number of disks can be made over one base, each with
    /// a store of its own.
    ///
    /// The changes are brought to the store by a task of the runtime that this is called in, which
    /// must outlive the disk and have its clock enabled. See [`OverlayOptions`] for what can be
    /// wrong with them.
    pub async fn with_store(
        &self,
        store: Arc<dyn BlockStore>,
        context: StoreContext,
        options: OverlayOptions,
    ) -> Result<Self, OverlayError> {
        if self.written.is_some() {
            return Err(OverlayError::Base);
        }
        let overlay = Overlay::open(Arc::clone(&self.base), store, context, options).await?;
        let overlay = Arc::new(overlay);
        let write_back = tokio::spawn(Arc::clone(&overlay).write_back()).abort_handle();
        let written = Some(Written { overlay, write_back });
        Ok(Self { base: Arc::clone(&self.base), written, moved: Moved::default() })
    }

    /// Size that the guest sees; a multiple of 512, at least 512.
    pub fn size_bytes(&self) -> u64 {
        self.written.as_ref().map_or_else(|| self.base.size(), |written| written.overlay.size())
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.written.is_some()
    }

    /// Fills the target from `offset` on.
    ///
    /// The first poll serves all that is in memory, so a read that hits the caches never leaves
    /// the thread; the rest is fetched by tokio's blocking threads, or from the store. Must run
    /// inside a tokio runtime. May be dropped at any time. After an error the target is filled in
    /// part.
    pub async fn read(&self, offset: u64, target: &mut impl ReadTarget) -> Result<(), ReadError> {
        let length = target.remaining() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size_bytes()) {
            return Err(ReadError::OutOfRange { offset, length });
        }
        match &self.written {
            None => self.base.read(offset, target).await,
            Some(written) => written.overlay.read(offset, target).await,
        }?;
        self.moved.read.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// What was read and written so far, by calls that succeeded.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            read: self.moved.read.load(Ordering::Relaxed),
            written: self.moved.written.load(Ordering::Relaxed),
        }
    }

    /// Changes the bytes from `offset` on; whole sectors of 512 bytes.
    ///
    /// When it is done, each later read sees it, and the next flush makes it durable. Of writes
    /// that overlap and are under way at once, one comes wholly after the other in each block.
    /// Waits while `max_dirty_bytes` are used up. After an error, or dropped before its end, it is
    /// done in part.
    pub async fn write(
        &self,
        offset: u64,
        source: &mut impl WriteSource,
    ) -> Result<(), WriteError> {
        let length = source.remaining() as u64;
        self.overlay()?.write(offset, source).await?;
        self.moved.written.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Makes durable every change that was done before. After an error any of them may not be;
    /// none is lost, and a later flush that succeeds has made all of them durable. Read-only disks
    /// have nothing to do.
    pub async fn flush(&self) -> Result<(), WriteError> {
        match &self.written {
            None => Ok(()),
            Some(written) => written.overlay.flush().await,
        }
    }

    /// Makes the range read as zeros, and frees what it took in the store.
    pub async fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), WriteError> {
        self.overlay()?.zero(offset, length).await
    }

    /// The same as [`Disk::write_zeroes`]: what is discarded reads as zeros, never as the base.
    pub async fn discard(&self, offset: u64, length: u64) -> Result<(), WriteError> {
        self.write_zeroes(offset, length).await
    }

    /// Flushes, then refuses every change. With a store that fails or hangs it ends after
    /// [`crate::limits::WRITE_BACK_TRIES`] deadlines of the store, or one more for the flush.
    pub async fn close(&self) -> Result<(), WriteError> {
        match &self.written {
            None => Ok(()),
            Some(written) => written.overlay.close().await,
        }
    }

    /// The first run of bytes of this range that may hold anything but zeros.
    pub async fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        match &self.written {
            None => self.base.next_data(range).await,
            Some(written) => written.overlay.next_data(range).await,
        }
    }

    /// Bytes of the blocks that its store has; none without a store.
    pub fn overlay_bytes(&self) -> u64 {
        self.written.as_ref().map_or(0, |written| written.overlay.present_bytes())
    }

    fn overlay(&self) -> Result<&Overlay, WriteError> {
        self.written.as_ref().map(|written| &*written.overlay).ok_or(WriteError::ReadOnly)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.write_back.abort();
    }
}
