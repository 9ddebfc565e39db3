//! Writes the disk as a QCOW2 image whose clusters are zlib-compressed. Clusters of zeros are not
//! allocated at all; a cluster that does not shrink is stored as it is.
//!
//! The bytes depend on the contents and on the pinned compressor alone, not on the number of
//! processors.

use std::io::{self, Seek, Write};
use std::num::NonZeroUsize;

use blockcow::qcow2::{Cluster, Compressor, Qcow2Writer};

use crate::error::{Error, Result};
use crate::sparse_file::{PART_SIZE, SparseFile};

const CLUSTER_BYTES: usize = 1 << 16;
const _: () = assert!(CLUSTER_BYTES as u64 == PART_SIZE);
/// Clusters handed to one thread at a time.
const BATCH: usize = 64;
/// Smallest, because images are written once and downloaded often.
const LEVEL: u32 = 9;

/// Write `disk` as a QCOW2 image to `output`, which must be empty.
pub(crate) fn write<W: Write + Seek>(disk: &SparseFile, output: &mut W) -> Result<()> {
    let failed = |error: io::Error| Error::Image(error.to_string());
    let mut image = Qcow2Writer::new(output, disk.size(), CLUSTER_BYTES).map_err(failed)?;
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let parts: Vec<u64> = disk.written_parts().collect();
    for round in parts.chunks(BATCH * threads) {
        let batches = std::thread::scope(|scope| {
            let workers: Vec<_> = round
                .chunks(BATCH)
                .map(|batch| scope.spawn(move || compress_batch(disk, batch)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
                })
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(failed)?;
        for (cluster, stored) in batches.into_iter().flatten() {
            image.append(cluster, &stored).map_err(failed)?;
        }
    }
    image.finish().map_err(failed)?;
    Ok(())
}

/// Compress the clusters of `batch` that hold anything but zeros.
fn compress_batch(disk: &SparseFile, batch: &[u64]) -> io::Result<Vec<(u64, Cluster)>> {
    let mut compressor = Compressor::new(LEVEL);
    let mut out = Vec::with_capacity(batch.len());
    for cluster in batch {
        let mut plain = vec![0; CLUSTER_BYTES];
        disk.read_part(*cluster, &mut plain)?;
        if plain.iter().any(|byte| *byte != 0) {
            out.push((*cluster, compressor.compress(plain)?));
        }
    }
    Ok(out)
}

#[cfg(test)]
#[path = "qcow2/tests.rs"]
mod tests;
