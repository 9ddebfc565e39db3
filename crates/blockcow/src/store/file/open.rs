//! Opening and creating files, and the lock.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::FileStore;
use super::io::StoreFile;
use super::superblock::MAX_BASE_BYTES;
use crate::store::StoreError;

/// Why a file was not opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum FileStoreError {
    /// The identity of the base has no bytes, or more than 1,024.
    #[error("The base's identity must have 1 to 1024 bytes, not {0}")]
    Base(usize),
    /// A directory, device, socket or pipe.
    #[error("The store is not a regular file")]
    NotAFile,
    /// Another store, in this process or another one, is using it.
    #[error("The store is in use")]
    Locked,
    /// Some other file, or an empty one.
    #[error("The file is not a block store")]
    NotAStore,
    /// Made by a later version of this crate.
    #[error("The store has version {0}; version 1 is supported")]
    Version(u32),
    /// It holds blocks over another base.
    #[error("The store belongs to the base {found}, not to {expected}")]
    WrongBase {
        /// The one that was given.
        expected: String,
        /// The one in the file.
        found: String,
    },
    /// It is shorter than it was.
    #[error("The store is truncated: it needs {needed} bytes, but the file has {length}")]
    Truncated {
        /// Bytes that its tables speak of.
        needed: u64,
        /// Length of the file.
        length: u64,
    },
    /// Its tables have changed.
    #[error("The store is damaged: {0}")]
    Damaged(&'static str),
    /// More memory than [`crate::limits::MAX_STORE_MAP_BYTES`] would be needed.
    #[error("The store's map is larger than what is supported")]
    MapTooLarge,
    /// What makes it usable could not be written, for want of room.
    #[error("There is no room for the store")]
    NoSpace,
    /// A system call failed.
    #[error("The store could not be opened")]
    Io(#[from] io::Error),
}

impl From<StoreError> for FileStoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSpace => Self::NoSpace,
            other => Self::Io(io::Error::other(other)),
        }
    }
}

impl FileStore {
    /// Opens the store at this path for this base, and creates it if there is none. `base`
    /// identifies the exact base image, for example by its digest. Blocks the thread: for each
    /// dirty GiB it reads 4 MiB, and everything that was written since the last flush.
    pub fn open_or_create(path: &Path, base: &str) -> Result<Self, FileStoreError> {
        check_base(base)?;
        match Self::open(path, base) {
            Err(FileStoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                create(path, base)?;
                Self::open(path, base)
            }
            opened => opened,
        }
    }

    /// Makes an empty file a store for this base, for callers that give files their names
    /// themselves. Blocks the thread.
    pub fn format_file(file: &File, base: &str) -> Result<(), FileStoreError> {
        check_base(base)?;
        let file: Arc<dyn StoreFile> = Arc::new(file.try_clone()?);
        Self::format(&file, base)
    }

    /// Opens the store at this path for this base. Blocks the thread.
    pub fn open(path: &Path, base: &str) -> Result<Self, FileStoreError> {
        check_base(base)?;
        let file = open_locked(path)?;
        Self::recover(Arc::new(file), path.to_owned(), base)
    }
}

fn check_base(base: &str) -> Result<(), FileStoreError> {
    match base.len() {
        1..=MAX_BASE_BYTES => Ok(()),
        length => Err(FileStoreError::Base(length)),
    }
}

/// Makes the file under another name, so that it is never seen in part. One that was made
/// meanwhile by somebody else stays.
fn create(path: &Path, base: &str) -> Result<(), FileStoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let temporary = NamedTempFile::new_in(folder)?;
    let file: Arc<dyn StoreFile> = Arc::new(temporary.as_file().try_clone()?);
    FileStore::format(&file, base)?;
    drop(file);
    match temporary.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error.error.into()),
    }
    // Its name is to be durable, too.
    Ok(File::open(folder)?.sync_all()?)
}

fn open_locked(path: &Path) -> Result<File, FileStoreError> {
    // Looked at before it is opened: opening a pipe waits.
    if !fs::metadata(path)?.is_file() {
        return Err(FileStoreError::NotAFile);
    }
    let file = File::options().read(true).write(true).open(path)?;
    let opened = file.metadata()?;
    if !opened.is_file() {
        return Err(FileStoreError::NotAFile);
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(FileStoreError::Locked),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    // Replaced between opening and locking: whoever did that has the name now.
    let named = fs::metadata(path)?;
    if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
        return Err(FileStoreError::Locked);
    }
    Ok(file)
}
