//! A whole disk as one standalone QCOW2 image.
//!
//! ```text
//!  next_data ─► cluster numbers ─► read ─► compress (blocking threads) ─► in order ─► writer
//! ```
//! Only what may hold anything is read. Memory: [`AHEAD`] clusters being made, as many waiting for
//! the writer, and the writer's tables.

use std::fs::File;
use std::io;
use std::sync::Arc;

use futures::{TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use crate::disk::Disk;
use crate::error::ReadError;
use crate::qcow2::{CLUSTER_BYTES, Cluster, Compressor, Qcow2Writer};
use crate::target::BufferTarget;

/// Clusters that are made side by side.
const AHEAD: usize = 4;

/// Parts of a disk in which holes are looked for at once.
const SEARCH_BYTES: u64 = 1 << 30;

/// zlib's default.
const LEVEL: u32 = 6;

/// How an image is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlattenOptions {
    /// Bytes of a cluster: a power of two from 4 KiB to 2 MiB. 64 KiB.
    pub cluster_bytes: usize,
    /// Whether clusters are compressed by zlib, where that makes them smaller.
    pub compress: bool,
}

impl Default for FlattenOptions {
    fn default() -> Self {
        Self { cluster_bytes: 64 << 10, compress: true }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlattenProgress {
    /// Bytes of the disk that are done, holes included.
    pub position: u64,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of the disk that were read because they may hold something.
    pub read: u64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum FlattenError {
    /// Not a power of two from 4 KiB to 2 MiB.
    #[error("The cluster size {0} must be a power of two from 4096 to 2097152")]
    ClusterSize(usize),
    /// The disk could not be read.
    #[error("The disk could not be read at {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The image could not be written.
    #[error("The image could not be written")]
    Write(#[from] io::Error),
    /// A thread that did the work has panicked.
    #[error("A thread ended unexpectedly")]
    Thread(#[from] JoinError),
}

/// A cluster and its number; none if it is all zeros.
type Made = (u64, Option<Cluster>);

/// Writes all of a disk into an empty file, and syncs it. Changes of the disk meanwhile may be in
/// the image or not.
///
/// Dropped before its end it stops within one cluster, and leaves a file that is no image.
pub async fn flatten(
    disk: Arc<Disk>,
    output: File,
    options: &FlattenOptions,
    mut progress: impl FnMut(FlattenProgress),
) -> Result<(), FlattenError> {
    let cluster_bytes = options.cluster_bytes;
    if !cluster_bytes.is_power_of_two() || !CLUSTER_BYTES.contains(&cluster_bytes) {
        return Err(FlattenError::ClusterSize(cluster_bytes));
    }
    let (size, cluster) = (disk.size_bytes(), cluster_bytes as u64);
    let (sender, receiver) = mpsc::channel::<Made>(AHEAD);
    let writer = spawn_blocking(move || write(output, size, cluster_bytes, receiver));
    let made = clusters(&disk, cluster)
        .map_ok(|number| make(Arc::clone(&disk), number, options))
        .try_buffered(AHEAD);
    let mut made = std::pin::pin!(made);
    let mut read = 0;
    while let Some((number, content)) = made.try_next().await? {
        if sender.send((number, content)).await.is_err() {
            // The writer has failed, and says why.
            break;
        }
        read += cluster.min(size - number * cluster);
        let position = ((number + 1) * cluster).min(size);
        progress(FlattenProgress { position, size, read });
    }
    // Dropped without this, the writer sees an end that is none.
    if sender.send((u64::MAX, None)).await.is_ok() {
        progress(FlattenProgress { position: size, size, read });
    }
    Ok(writer.await??)
}

/// Numbers of the clusters that may hold anything but zeros.
fn clusters(disk: &Disk, cluster: u64) -> impl futures::Stream<Item = Result<u64, FlattenError>> {
    stream::try_unfold(0, move |mut position| async move {
        while position < disk.size_bytes() {
            let end = (position + SEARCH_BYTES.max(cluster)).min(disk.size_bytes());
            let failed = |source| FlattenError::Read { offset: position, source };
            match disk.next_data(position..end).await.map_err(failed)? {
                None => position = end,
                Some(data) => {
                    let number = data.start / cluster;
                    return Ok(Some((number, (number + 1) * cluster)));
                }
            }
        }
        Ok(None)
    })
}

async fn make(
    disk: Arc<Disk>,
    number: u64,
    options: &FlattenOptions,
) -> Result<Made, FlattenError> {
    let offset = number * options.cluster_bytes as u64;
    let inside = (options.cluster_bytes as u64).min(disk.size_bytes() - offset);
    let mut bytes = vec![0; options.cluster_bytes];
    let inside = usize::try_from(inside).map_err(io::Error::other)?;
    disk.read(offset, &mut BufferTarget::new(&mut bytes[..inside]))
        .await
        .map_err(|source| FlattenError::Read { offset, source })?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok((number, None));
    }
    if !options.compress {
        return Ok((number, Some(Cluster::Plain(bytes))));
    }
    let packed = spawn_blocking(move || Compressor::new(LEVEL).compress(bytes)).await??;
    Ok((number, Some(packed)))
}

fn write(
    output: File,
    size: u64,
    cluster_bytes: usize,
    mut made: mpsc::Receiver<Made>,
) -> io::Result<()> {
    let mut image = Qcow2Writer::new(output, size, cluster_bytes)?;
    loop {
        match made.blocking_recv() {
            Some((u64::MAX, _)) => break,
            Some((number, Some(cluster))) => image.append(number, &cluster)?,
            Some((_, None)) => {}
            None => return Err(io::ErrorKind::Interrupted.into()),
        }
    }
    image.finish()?.sync_all()
}
