//! From an opened image to a disk of the machine, with the store of what the guest changes.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use blockcow::{
    BlockStore, Disk, DiskEvent, EventSink, FileStore, FileStoreError, ImageFormat, MemoryStore,
    OverlayError, OverlayOptions, ReadError, StoreCall, StoreContext,
};
use confine::Blank;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::artifact::{Artifact, Problem};
use crate::block_store::{Registry, StreamStore};
use crate::error::{Error, chain};
use crate::granted::Granted;
use crate::lane::{Journal, unix_nanos};
use crate::request::{DiskFormat, OverlayPlan, RequestError, RootImage, StorePlan};

/// A root disk, and what the guest must know of it.
#[derive(Debug)]
pub struct RootDisk {
    /// The disk.
    pub disk: Arc<Disk>,
    /// Blocks of 4 KiB that it can take, when that is less than its size.
    pub capacity_blocks: Option<u64>,
    /// Its store takes less room for what is discarded.
    pub discards: bool,
}

/// How the store of a root does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// What it was asked.
    pub call: StoreCall,
    /// It works again.
    pub recovered: bool,
    /// One sentence.
    pub message: String,
}

/// Why a root cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file of the store.
    #[error("The persistent root {} cannot be used: {}", .path.display(), chain(.source))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: FileStoreError,
    },
    /// The disk has been grown beyond what is asked for.
    #[error(
        "The disk in {} has {} MiB, more than the {} MiB that are asked for; a disk cannot shrink",
        .path.display(), .kept >> 20, .asked >> 20
    )]
    Smaller {
        /// The file of the store.
        path: PathBuf,
        /// What was asked for.
        asked: u64,
        /// What the disk has.
        kept: u64,
    },
    /// It could not be read.
    #[error("The disk could not be read: {}", chain(.source))]
    Read {
        /// Why.
        source: ReadError,
    },
    /// The store, whatever it is, and the disk do not go together.
    #[error("The root cannot be made writable: {}", chain(.0))]
    Overlay(#[from] OverlayError),
}

/// What a disk is opened with.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Stores that the client serves.
    pub stores: &'a Registry,
    /// What happens to the store is told here.
    pub journal: &'a Arc<Journal>,
    /// Files that can be made.
    pub granted: &'a Granted,
}

/// Opens the image as the root's disk. `file` is another descriptor of `image`.
///
/// # Errors
/// [`Error::Artifact`] when the image is not what its format asks for; [`Error::Disk`] when it
/// cannot be made writable.
pub async fn open(
    image: &Artifact,
    file: File,
    root: &RootImage,
    around: Around<'_>,
) -> Result<RootDisk, Error> {
    around.stores.close();
    let format = match root.format {
        DiskFormat::Qcow2 => ImageFormat::Qcow2,
        DiskFormat::Raw => ImageFormat::Raw,
    };
    // It reads all tables of the image.
    let opened = spawn_blocking(move || Disk::open(file, format)).await;
    let base = opened
        .map_err(|_| Error::Defect("The thread that opens the image"))?
        .map_err(|error| image.error(Problem::Image(chain(&error))))?;
    match &root.overlay {
        None => Ok(RootDisk { disk: Arc::new(base), capacity_blocks: None, discards: false }),
        Some(overlay) => writable(&base, root, overlay, around).await,
    }
}

async fn writable(
    base: &Disk,
    root: &RootImage,
    overlay: &OverlayPlan,
    Around { stores, journal, granted }: Around<'_>,
) -> Result<RootDisk, Error> {
    let identity: Arc<str> = root.file.digest.to_string().into();
    let (mut capacity_blocks, mut file) = (None, None);
    let mut options = OverlayOptions { size_bytes: overlay.size, ..OverlayOptions::default() };
    let store: Arc<dyn BlockStore> = match &overlay.store {
        StorePlan::Memory { quota } => {
            capacity_blocks = Some(MemoryStore::capacity_blocks(*quota));
            Arc::new(MemoryStore::new(*quota))
        }
        StorePlan::File { path, create } => {
            let blank = create.then(|| granted.take_blank(path)).flatten();
            let store = open_file(path.clone(), Arc::clone(&identity), (*create, blank)).await?;
            options.size_bytes = size(path, overlay.size, store.disk_bytes())?;
            file = Some(store.clone());
            Arc::new(store)
        }
        StorePlan::Callbacks { id, max_dirty } => {
            options.max_dirty_bytes = *max_dirty;
            Arc::new(attached(id, stores, journal)?)
        }
    };
    let discards = store.discards();
    let context = StoreContext { base: identity, generation: unix_nanos(SystemTime::now()) };
    let told = Arc::clone(journal);
    options.events = Some(EventSink::new(move |event| {
        if let Some(report) = report(event) {
            told.store_event(report);
        }
    }));
    let disk = base.with_store(store, context, options).await.map_err(DiskError::from)?;
    if let (Some(file), Some(size)) = (file, overlay.size) {
        remember(file, size).await?;
    }
    Ok(RootDisk { disk: Arc::new(disk), capacity_blocks, discards })
}

fn attached(id: &str, stores: &Registry, journal: &Arc<Journal>) -> Result<StreamStore, Error> {
    let Some(link) = stores.take(id) else {
        let reason = "no ServeBlockStore is attached under this name";
        return Err(RequestError::new("root.overlay.callbacks.id", id, reason).into());
    };
    Ok(StreamStore::new(link, Arc::clone(journal)))
}

/// The size that a disk has: what is asked for, or what its file knows.
fn size(path: &Path, asked: Option<u64>, kept: Option<u64>) -> Result<Option<u64>, DiskError> {
    match (asked, kept) {
        (Some(asked), Some(kept)) if asked < kept => {
            Err(DiskError::Smaller { path: path.to_owned(), asked, kept })
        }
        (asked, kept) => Ok(asked.or(kept)),
    }
}

/// Keeps the size before the guest can grow its filesystem to it.
async fn remember(store: FileStore, size: u64) -> Result<(), Error> {
    if store.disk_bytes() == Some(size) {
        return Ok(());
    }
    let path = store.path().to_owned();
    let kept = spawn_blocking(move || store.set_disk_bytes(size)).await;
    let kept = kept.map_err(|_| Error::Defect("The thread that keeps the size of a disk"))?;
    Ok(kept.map_err(|source| DiskError::File { path, source: source.into() })?)
}

/// A file that may be made has a nameless one for it where it was not there before.
async fn open_file(
    path: PathBuf,
    base: Arc<str>,
    (create, blank): (bool, Option<Blank>),
) -> Result<FileStore, Error> {
    let at = path.clone();
    let open = move || match blank {
        Some(blank) => {
            FileStore::format_file(blank.file(), &base)?;
            match blank.publish() {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
                _ => FileStore::open(&at, &base),
            }
        }
        None if create => FileStore::open_or_create(&at, &base),
        None => FileStore::open(&at, &base),
    };
    let opened = spawn_blocking(open).await;
    let opened = opened.map_err(|_| Error::Defect("The thread that opens a store"))?;
    Ok(opened.map_err(|source| DiskError::File { path, source })?)
}

fn report(event: DiskEvent) -> Option<StoreReport> {
    match event {
        DiskEvent::StoreFailing { call, error } => {
            Some(StoreReport { call, recovered: false, message: chain(&error) })
        }
        DiskEvent::StoreRecovered { call } => {
            Some(StoreReport { call, recovered: true, message: "The store works again".to_owned() })
        }
        _ => None,
    }
}

/// Brings what the guest has written to its store; the sentence for the owner if that fails.
pub async fn close(disk: Arc<Disk>, within: Duration) -> Option<String> {
    let lost = "What the root's store had not taken is lost";
    match timeout(within, disk.close()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{lost}: {}", chain(&error))),
        Err(_) => Some(format!("{lost}: it did not answer in time")),
    }
}
