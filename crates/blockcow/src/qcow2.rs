//! Writes a QCOW2 version 3 image ("docs/interop/qcow2.rst" of QEMU): standalone, of clusters that
//! may be zlib-compressed. Clusters that are not given are not allocated at all.
//!
//! ```text
//! | header | compressed and plain clusters …, each L2 table after its last | L1 table
//!          | refcount blocks | refcount table |
//! ```
//! The header is written last, when the places of the tables are known: until then the file is no
//! image. In memory are one L2 table, 8 bytes for each L2 table (which is for 512 MiB with
//! clusters of 64 KiB), and 2 bytes for each cluster of the file.

use std::io::{self, Seek, SeekFrom, Write};

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::limits::MAX_DISK_BYTES;

const MAGIC: [u8; 4] = *b"QFI\xfb";
const HEADER_LENGTH: u32 = 104;
/// Counters of 16 bits.
const REFCOUNT_ORDER: u32 = 4;
/// "Refcount is exactly one": set in entries for plain clusters and L2 tables.
const FLAG_COPIED: u64 = 1 << 63;
const FLAG_COMPRESSED: u64 = 1 << 62;
const SECTOR_SIZE: u64 = 512;

/// Cluster sizes that can be written: what QEMU takes, and from where tables stay small.
pub const CLUSTER_BYTES: std::ops::RangeInclusive<usize> = 4096..=2 << 20;

/// A cluster as it goes into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cluster {
    /// A raw deflate stream of a whole cluster.
    Compressed(Vec<u8>),
    /// As it is.
    Plain(Vec<u8>),
}

/// Compresses clusters; keeps its tables from one to the next.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Compressor {
    /// With a level from 1 (quick) to 9 (small).
    pub fn new(level: u32) -> Self {
        Self(Compress::new(Compression::new(level.clamp(1, 9)), false))
    }

    /// The cluster compressed, or as it is if that saves no sector.
    pub fn compress(&mut self, plain: Vec<u8>) -> io::Result<Cluster> {
        // One sector less than a cluster: anything longer saves nothing.
        let mut packed = Vec::with_capacity(plain.len().saturating_sub(512));
        self.0.reset();
        let status = self
            .0
            .compress_vec(&plain, &mut packed, FlushCompress::Finish)
            .map_err(io::Error::other)?;
        Ok(match status {
            Status::StreamEnd => Cluster::Compressed(packed),
            Status::Ok | Status::BufError => Cluster::Plain(plain),
        })
    }
}

/// The image as far as it has been written.
#[derive(Debug)]
pub struct Qcow2Writer<W> {
    output: W,
    virtual_size: u64,
    cluster_bits: u32,
    /// Where the next byte of the file goes.
    end: u64,
    /// Number of the next cluster that may be given.
    next: u64,
    l1: Vec<u64>,
    /// The entries that the last given cluster is among.
    l2: Option<(usize, Vec<u64>)>,
    /// By host cluster; the header is the first.
    refcounts: Vec<u16>,
}

impl<W: Write + Seek> Qcow2Writer<W> {
    /// Begins an image of a disk of this size. `output` must be empty; `cluster_bytes` a power of
    /// two in [`CLUSTER_BYTES`].
    pub fn new(mut output: W, virtual_size: u64, cluster_bytes: usize) -> io::Result<Self> {
        let whole = virtual_size.is_multiple_of(SECTOR_SIZE) && virtual_size <= MAX_DISK_BYTES;
        if !whole || !cluster_bytes.is_power_of_two() || !CLUSTER_BYTES.contains(&cluster_bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let cluster = cluster_bytes as u64;
        let tables = virtual_size.div_ceil(cluster * (cluster / 8));
        let l1 = vec![0; usize::try_from(tables).map_err(io::Error::other)?];
        output.seek(SeekFrom::Start(cluster))?;
        let cluster_bits = cluster_bytes.trailing_zeros();
        Ok(Self {
            output,
            virtual_size,
            cluster_bits,
            end: cluster,
            next: 0,
            l1,
            l2: None,
            refcounts: vec![1],
        })
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes written so far.
    pub fn file_bytes(&self) -> u64 {
        self.end
    }

    /// Writes the cluster of this number. Numbers ascend.
    pub fn append(&mut self, number: u64, cluster: &Cluster) -> io::Result<()> {
        let entries = self.cluster() / 8;
        let table = usize::try_from(number / entries).map_err(io::Error::other)?;
        let index = usize::try_from(number % entries).map_err(io::Error::other)?;
        if number < self.next || number >= self.virtual_size.div_ceil(self.cluster()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.next = number + 1;
        if self.l2.as_ref().is_some_and(|(current, _)| *current != table) {
            self.finish_l2()?;
        }
        let entry = self.write_data(cluster)?;
        let empty = || (table, vec![0; 1 << (self.cluster_bits - 3)]);
        self.l2.get_or_insert_with(empty).1[index] = entry;
        Ok(())
    }

    fn write_data(&mut self, cluster: &Cluster) -> io::Result<u64> {
        match cluster {
            Cluster::Compressed(bytes) if !bytes.is_empty() => {
                let start = self.write_bytes(bytes)?;
                // Readers take whole sectors: from the one `start` lies in to the last one.
                let sectors = (self.end - 1) / SECTOR_SIZE - start / SECTOR_SIZE;
                for host in start / self.cluster()..=(self.end - 1) / self.cluster() {
                    self.count(host)?;
                }
                // The host offset in the low bits, the number of further sectors above them.
                Ok(FLAG_COMPRESSED | sectors << (62 - (self.cluster_bits - 8)) | start)
            }
            Cluster::Plain(bytes) if bytes.len() as u64 == self.cluster() => {
                Ok(FLAG_COPIED | self.write_cluster(bytes)?)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let start = self.end;
        self.output.write_all(bytes)?;
        self.end += bytes.len() as u64;
        Ok(start)
    }

    /// Writes bytes at the next cluster boundary, filled up to whole clusters of refcount one.
    fn write_cluster(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.align()?;
        let start = self.write_bytes(bytes)?;
        self.align()?;
        for host in start / self.cluster()..self.end / self.cluster() {
            self.count(host)?;
        }
        Ok(start)
    }

    fn align(&mut self) -> io::Result<()> {
        let missing = self.end.next_multiple_of(self.cluster()) - self.end;
        io::copy(&mut io::Read::take(io::repeat(0), missing), &mut self.output)?;
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

    fn finish_l2(&mut self) -> io::Result<()> {
        if let Some((table, entries)) = self.l2.take() {
            self.l1[table] = FLAG_COPIED | self.write_cluster(&big_endian(&entries))?;
        }
        Ok(())
    }

    /// Writes what makes the file an image, and gives back the output.
    pub fn finish(mut self) -> io::Result<W> {
        self.finish_l2()?;
        let l1_offset = self.write_cluster(&big_endian(&self.l1.clone()))?;
        let refcount_table = self.write_refcounts()?;
        self.output.seek(SeekFrom::Start(0))?;
        let header = self.header(l1_offset, &refcount_table)?;
        self.output.write_all(&header)?;
        self.output.flush()?;
        Ok(self.output)
    }

    /// The blocks also count themselves and the table after them: find the number of blocks
    /// that covers everything, then write.
    fn write_refcounts(&mut self) -> io::Result<Clusters> {
        self.align()?;
        let per_block = self.cluster() / 2;
        let used = self.end / self.cluster();
        let (mut blocks, mut table_clusters) = (1, 1);
        while blocks * per_block < used + blocks + table_clusters {
            blocks += 1;
            table_clusters = (blocks * 8).div_ceil(self.cluster());
        }
        for host in used..used + blocks + table_clusters {
            self.count(host)?;
        }
        let first = self.end;
        let all = usize::try_from(blocks * per_block).map_err(io::Error::other)?;
        self.refcounts.resize(all, 0);
        let counters: Vec<u8> =
            self.refcounts.iter().flat_map(|counter| counter.to_be_bytes()).collect();
        self.write_bytes(&counters)?;
        let places: Vec<u64> = (0..blocks).map(|block| first + block * self.cluster()).collect();
        let offset = self.write_bytes(&big_endian(&places))?;
        self.align()?;
        Ok(Clusters { offset, count: table_clusters })
    }

    fn header(&self, l1_offset: u64, refcounts: &Clusters) -> io::Result<Vec<u8>> {
        let l1_size = u32::try_from(self.l1.len()).map_err(io::Error::other)?;
        let refcount_clusters = u32::try_from(refcounts.count).map_err(io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER_LENGTH as usize + 8);
        header.extend(MAGIC);
        header.extend(3u32.to_be_bytes()); // version
        header.extend(0u64.to_be_bytes()); // backing file offset
        header.extend(0u32.to_be_bytes()); // backing file name length
        header.extend(self.cluster_bits.to_be_bytes());
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

#[derive(Debug)]
struct Clusters {
    offset: u64,
    count: u64,
}

fn big_endian(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
