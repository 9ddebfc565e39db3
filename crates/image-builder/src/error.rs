//! What can go wrong while an image is built.

use std::io;
use std::path::{Path, PathBuf};

/// Every error names the input that caused it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Cannot {action} {}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("Archive {} cannot be used: {reason}", archive.display())]
    Archive { archive: PathBuf, reason: String },
    #[error("{}:{line}: {reason}", manifest.display())]
    Manifest { manifest: PathBuf, line: usize, reason: String },
    #[error("/{path}: {reason}")]
    Tree { path: String, reason: String },
    #[error("The filesystem cannot be laid out")]
    Ext4(#[from] mkext4::Error),
    #[error("/{path} cannot be put into the filesystem")]
    Entry { path: String, source: mkext4::Error },
    #[error("The image cannot be written: {0}")]
    Image(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Oci(Box<oci_image::Error>),
}

impl Error {
    /// For `map_err`: the action is a verb phrase such as "read".
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn tree(path: &str, reason: impl Into<String>) -> Self {
        Self::Tree { path: path.to_owned(), reason: reason.into() }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
