//! Writes a QCOW2 version 3 image whose clusters are zlib-compressed (QEMU's
//! `docs/interop/qcow2.txt`). Clusters of zeros are not allocated at all; a cluster that does
//! not shrink is stored as it is.
//!
//! ```text
//! | header | compressed and plain clusters … | L2 tables | L1 table | refcount blocks | refcount table |
//! ```
//! The header is written last, when the places of the tables are known. The bytes depend on the
//! contents and on the pinned compressor alone, not on the number of processors.

use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::error::{Error, Result};
use crate::sparse_file::{PART_SIZE, SparseFile};

const CLUSTER_BITS: u32 = 16;
const CLUSTER_SIZE: u64 = 1 << CLUSTER_BITS;
const CLUSTER_BYTES: usize = 1 << CLUSTER_BITS;
const _: () = assert!(CLUSTER_SIZE == PART_SIZE);
/// Entries of 8 bytes in one L2 table.
const L2_ENTRIES: usize = CLUSTER_BYTES / 8;
/// Counters of 16 bits in one refcount block.
const REFCOUNTS_PER_BLOCK: u64 = CLUSTER_SIZE / 2;
const REFCOUNT_ORDER: u32 = 4;
const MAGIC: [u8; 4] = *b"QFI\xfb";
const HEADER_LENGTH: u32 = 104;
/// "Refcount is exactly one": set in entries for plain clusters and L2 tables.
const FLAG_COPIED: u64 = 1 << 63;
const FLAG_COMPRESSED: u64 = 1 << 62;
/// A compressed entry holds the host offset in its low `62 - (CLUSTER_BITS - 8)` bits and the
/// number of further 512-byte sectors above them.
const COMPRESSED_OFFSET_BITS: u32 = 62 - (CLUSTER_BITS - 8);
const SECTOR_SIZE: u64 = 512;
/// Clusters handed to one thread at a time.
const BATCH: usize = 64;

/// Write `disk` as a QCOW2 image to `output`, which must be empty.
pub(crate) fn write<W: Write + Seek>(disk: &SparseFile, output: &mut W) -> Result<()> {
    let failed = |error: io::Error| Error::Image(error.to_string());
    let mut image = Image::new(disk.size());
    output.seek(SeekFrom::Start(CLUSTER_SIZE)).map_err(failed)?;
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
            image.append(cluster, &stored, output).map_err(failed)?;
        }
    }
    image.finish(output).map_err(failed)
}

/// A cluster as it goes into the file.
enum Stored {
    Compressed(Vec<u8>),
    Plain(Vec<u8>),
}

/// Compress the clusters of `batch` that hold anything but zeros.
fn compress_batch(disk: &SparseFile, batch: &[u64]) -> io::Result<Vec<(u64, Stored)>> {
    let mut compressor = Compress::new(Compression::best(), false);
    let mut plain = vec![0; CLUSTER_BYTES];
    let mut out = Vec::with_capacity(batch.len());
    for cluster in batch {
        disk.read_part(*cluster, &mut plain)?;
        if plain.iter().all(|byte| *byte == 0) {
            continue;
        }
        // One sector less than a cluster: anything longer saves nothing.
        let mut packed = Vec::with_capacity(CLUSTER_BYTES - 512);
        compressor.reset();
        let status = compressor
            .compress_vec(&plain, &mut packed, FlushCompress::Finish)
            .map_err(io::Error::other)?;
        out.push(match status {
            Status::StreamEnd => (*cluster, Stored::Compressed(packed)),
            Status::Ok | Status::BufError => (*cluster, Stored::Plain(plain.clone())),
        });
    }
    Ok(out)
}

/// The image as far as it has been written.
struct Image {
    virtual_size: u64,
    /// Where the next byte of the file goes.
    end: u64,
    /// L2 tables that have an entry, by L1 index.
    l2: Vec<Option<Vec<u64>>>,
    /// By host cluster; the header is the first.
    refcounts: Vec<u16>,
}

impl Image {
    fn new(virtual_size: u64) -> Self {
        let tables = virtual_size.div_ceil(CLUSTER_SIZE * CLUSTER_SIZE / 8);
        let l2 = (0..tables).map(|_| None).collect();
        Self { virtual_size, end: CLUSTER_SIZE, l2, refcounts: vec![1] }
    }

    fn append<W: Write>(
        &mut self,
        cluster: u64,
        stored: &Stored,
        output: &mut W,
    ) -> io::Result<()> {
        let entry = match stored {
            Stored::Compressed(bytes) => {
                let start = self.write_bytes(bytes, output)?;
                // Readers take whole sectors: from the one `start` lies in to the last one.
                let sectors = (self.end - 1) / SECTOR_SIZE - start / SECTOR_SIZE;
                for host in start / CLUSTER_SIZE..=(self.end - 1) / CLUSTER_SIZE {
                    self.count(host)?;
                }
                FLAG_COMPRESSED | sectors << COMPRESSED_OFFSET_BITS | start
            }
            Stored::Plain(bytes) => FLAG_COPIED | self.write_cluster(bytes, output)?,
        };
        let cluster = usize::try_from(cluster).map_err(io::Error::other)?;
        let (table, index) = (cluster / L2_ENTRIES, cluster % L2_ENTRIES);
        let slot = self.l2.get_mut(table).ok_or(io::ErrorKind::InvalidInput)?;
        slot.get_or_insert_with(|| vec![0; L2_ENTRIES])[index] = entry;
        Ok(())
    }

    fn write_bytes<W: Write>(&mut self, bytes: &[u8], output: &mut W) -> io::Result<u64> {
        let start = self.end;
        output.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(start)
    }

    /// Write bytes at the next cluster boundary, filled up to whole clusters of refcount one.
    fn write_cluster<W: Write>(&mut self, bytes: &[u8], output: &mut W) -> io::Result<u64> {
        self.align(output)?;
        let start = self.write_bytes(bytes, output)?;
        self.align(output)?;
        for host in start / CLUSTER_SIZE..self.end / CLUSTER_SIZE {
            self.count(host)?;
        }
        Ok(start)
    }

    fn align<W: Write>(&mut self, output: &mut W) -> io::Result<()> {
        let missing = self.end.next_multiple_of(CLUSTER_SIZE) - self.end;
        io::copy(&mut io::Read::take(io::repeat(0), missing), output)?;
        self.end += missing;
        Ok(())
    }

    fn count(&mut self, host: u64) -> io::Result<()> {
        let host = usize::try_from(host).map_err(io::Error::other)?;
        if self.refcounts.len() <= host {
            self.refcounts.resize(host + 1, 0);
        }
        let counter = &mut self.refcounts[host];
        *counter = counter.checked_add(1).ok_or_else(|| io::Error::other("refcount overflow"))?;
        Ok(())
    }

    fn finish<W: Write + Seek>(mut self, output: &mut W) -> io::Result<()> {
        let mut l1 = Vec::with_capacity(self.l2.len());
        for table in std::mem::take(&mut self.l2) {
            l1.push(match table {
                Some(table) => FLAG_COPIED | self.write_cluster(&big_endian(&table), output)?,
                None => 0,
            });
        }
        let l1_offset = self.write_cluster(&big_endian(&l1), output)?;
        let refcount_table = self.write_refcounts(output)?;
        output.seek(SeekFrom::Start(0))?;
        output.write_all(&self.header(&l1, l1_offset, refcount_table)?)?;
        output.flush()
    }

    /// The blocks also count themselves and the table after them: find the number of blocks
    /// that covers everything, then write.
    fn write_refcounts<W: Write>(&mut self, output: &mut W) -> io::Result<Clusters> {
        self.align(output)?;
        let used = self.end / CLUSTER_SIZE;
        let (mut blocks, mut table_clusters) = (1, 1);
        while blocks * REFCOUNTS_PER_BLOCK < used + blocks + table_clusters {
            blocks += 1;
            table_clusters = (blocks * 8).div_ceil(CLUSTER_SIZE);
        }
        for host in used..used + blocks + table_clusters {
            self.count(host)?;
        }
        let first = self.end;
        let all = usize::try_from(blocks * REFCOUNTS_PER_BLOCK).map_err(io::Error::other)?;
        self.refcounts.resize(all, 0);
        let counters: Vec<u8> =
            self.refcounts.iter().flat_map(|counter| counter.to_be_bytes()).collect();
        self.write_bytes(&counters, output)?;
        let places: Vec<u64> = (0..blocks).map(|block| first + block * CLUSTER_SIZE).collect();
        let offset = self.write_bytes(&big_endian(&places), output)?;
        self.align(output)?;
        Ok(Clusters { offset, count: table_clusters })
    }

    fn header(&self, l1: &[u64], l1_offset: u64, refcounts: Clusters) -> io::Result<Vec<u8>> {
        let l1_size = u32::try_from(l1.len()).map_err(io::Error::other)?;
        let refcount_clusters = u32::try_from(refcounts.count).map_err(io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER_LENGTH as usize + 8);
        header.extend(MAGIC);
        header.extend(3u32.to_be_bytes()); // version
        header.extend(0u64.to_be_bytes()); // backing file offset
        header.extend(0u32.to_be_bytes()); // backing file name length
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(self.virtual_size.to_be_bytes());
        header.extend(0u32.to_be_bytes()); // no encryption
        header.extend(l1_size.to_be_bytes());
        header.extend(l1_offset.to_be_bytes());
        header.extend(refcounts.offset.to_be_bytes());
        header.extend(refcount_clusters.to_be_bytes());
        header.extend(0u32.to_be_bytes()); // snapshots
        header.extend(0u64.to_be_bytes()); // snapshots offset
        header.extend([0; 24]); // incompatible, compatible and autoclear features
        header.extend(REFCOUNT_ORDER.to_be_bytes());
        header.extend(HEADER_LENGTH.to_be_bytes());
        header.extend([0; 8]); // end of the header extensions
        Ok(header)
    }
}

struct Clusters {
    offset: u64,
    count: u64,
}

fn big_endian(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[cfg(test)]
#[path = "qcow2/tests.rs"]
mod tests;
