//! A disk with its overlay as one standalone image, without a VM.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blockcow::{Disk, FlattenError, FlattenOptions, FlattenProgress};
use confine::Blank;
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::artifact::Artifact;
use crate::disk::{self, Around};
use crate::error::{Error, chain};
use crate::request::{FlattenPlan, RootImage};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[error("{} was not written: {}", .path.display(), chain(.source))]
pub struct FlattenFailure {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: FlattenError,
}

/// Opens a disk whose image is what it is said to be.
///
/// # Errors
/// [`Error`] names the file that cannot be read.
pub async fn open(source: &RootImage, around: Around<'_>) -> Result<Arc<Disk>, Error> {
    let (path, size, digest) = (source.file.path.clone(), source.size, source.file.digest);
    let cancel = CancellationToken::new();
    let _give_up = cancel.clone().drop_guard();
    let opened = spawn_blocking(move || {
        let image = Artifact::open("root image", &path)?.expect_size(size)?;
        image.verify(digest, &cancel)?;
        Ok(image)
    });
    let image = opened.await.map_err(|_| Error::Defect("The thread that opens files"))?;
    let image = image.map_err(Error::Artifact)?;
    let served = image.duplicate()?;
    Ok(disk::open(&image, served, source, around).await?.disk)
}

/// Writes the image under another name and gives it its own when it is whole and durable. Dropped
/// before its end it leaves nothing.
///
/// # Errors
/// [`Error`] names the file that cannot be read or written.
pub async fn flatten(
    plan: FlattenPlan,
    around: Around<'_>,
    progress: impl FnMut(FlattenProgress) + Send,
) -> Result<(), Error> {
    let FlattenPlan { source, destination, options } = plan;
    let disk = open(&source, around).await?;
    let blank = around.granted.take_blank(&destination);
    let failed = |source| FlattenFailure { path: destination.clone(), source };
    let written = match blank {
        Some(blank) => fill(disk, blank, &options, progress).await,
        None => write(disk, &destination, &options, progress).await,
    };
    written.map_err(failed)?;
    Ok(())
}

/// Writes the image to a nameless file.
async fn fill(
    disk: Arc<Disk>,
    blank: Blank,
    options: &FlattenOptions,
    progress: impl FnMut(FlattenProgress) + Send,
) -> Result<(), FlattenError> {
    let output = blank.file().try_clone()?;
    blockcow::flatten(disk, output, options, progress).await?;
    spawn_blocking(move || blank.publish()).await??;
    Ok(())
}

async fn write(
    disk: Arc<Disk>,
    destination: &Path,
    options: &FlattenOptions,
    progress: impl FnMut(FlattenProgress) + Send,
) -> Result<(), FlattenError> {
    let folder = destination.parent().unwrap_or_else(|| Path::new("/")).to_owned();
    let target = destination.to_owned();
    let (temporary, output) = spawn_blocking(move || -> io::Result<_> {
        if target.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let temporary = NamedTempFile::new_in(target.parent().unwrap_or_else(|| Path::new("/")))?;
        let output = temporary.as_file().try_clone()?;
        Ok((temporary, output))
    })
    .await??;
    blockcow::flatten(disk, output, options, progress).await?;
    let target = destination.to_owned();
    spawn_blocking(move || {
        temporary.persist_noclobber(target).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    })
    .await??;
    Ok(())
}
