//! Every limit of this crate, in one place.

use std::time::Duration;

/// Largest disk: 64 TiB. Above it the tables of a qcow2 image outgrow any sensible helper.
pub const MAX_DISK_BYTES: u64 = 64 << 40;

/// Most entries of a qcow2 L1 table: 8 MiB in memory, enough for 64 TiB from 16 KiB clusters on.
pub const MAX_L1_ENTRIES: u32 = 1 << 20;

/// Most memory for the L2 tables that `imago` keeps, which is up to [`CACHED_L2_TABLES`] of one
/// cluster each. Reached only by disks of more than 16 TiB with clusters of 2 MiB.
pub const MAX_L2_CACHE_BYTES: u64 = 64 << 20;

/// How many L2 tables `imago` 0.2 keeps at most.
pub const CACHED_L2_TABLES: u64 = 128;

/// Decompressed blocks kept for a disk, shared by all its queues.
pub const BLOCK_CACHE_BYTES: u64 = 16 << 20;

/// Memory for what is known about where clusters lie.
pub const MAP_CACHE_BYTES: u64 = 2 << 20;

/// Clusters that one entry of that cache describes: at most 24 KiB when no two are alike.
pub const MAP_CLUSTERS: u64 = 1024;

/// Smallest piece that is decompressed and kept at once; images with smaller clusters are read in
/// pieces of this size.
pub const MIN_BLOCK_BYTES: u64 = 16 << 10;

/// Pieces in which raw images are read when they are not in the page cache.
pub const RAW_BLOCK_BYTES: u64 = 128 << 10;

/// Pieces of one read that are fetched side by side.
pub const FETCHES_PER_READ: usize = 4;

/// Pieces of one disk that are fetched side by side; with [`RAW_BLOCK_BYTES`] or a cluster (2 MiB
/// at most) each, this bounds what is held for reads under way.
pub const FETCHES_PER_DISK: usize = 8;

/// Sectors are what disks are counted in (virtio 1.2, 5.2.4).
pub const SECTOR_BYTES: u64 = 512;

/// Most bytes of one write-back, and of one write that a store is given.
pub const MAX_BATCH_BYTES: u64 = 4 << 20;

/// Most blocks of zeros, or blocks to discard, that a store is given at once.
pub const MAX_BATCH_ZEROS: usize = 16 << 10;

/// Most bytes that a store is asked for at once.
pub const MAX_STORE_READ_BYTES: u64 = 1 << 20;

/// Reads of one store that are under way at once; with [`MAX_STORE_READ_BYTES`] each, this bounds
/// what is held for them. The others wait, no longer than the store's deadline.
pub const STORE_READS: usize = 16;

/// Most memory for the map of a file store: 512 GiB of written blocks that lie side by side, or, at
/// worst, 1 GiB of them with one in each 2 MiB of the disk. Beyond it the store is full.
pub const MAX_STORE_MAP_BYTES: u64 = 1 << 30;

/// Memory that a written block takes beside its bytes until it is in the store: its places in a
/// hash map and in a tree, and two allocations. Counts towards `max_dirty_bytes`.
pub const DIRTY_ENTRY_BYTES: u64 = 256;

/// Least value of `max_dirty_bytes`, which must also have room for two blocks.
pub const MIN_DIRTY_BYTES: u64 = 1 << 20;

/// Bytes of a write that are taken together.
pub const WRITE_PIECE_BYTES: u64 = 1 << 20;

/// Blocks that are zeroed together.
pub const ZERO_PIECE_BLOCKS: u64 = 1024;

/// Times that a write-back is tried before it counts as failed.
pub const WRITE_BACK_TRIES: u32 = 3;

/// Pause before the second try; the third comes after four times that.
pub const WRITE_BACK_PAUSE: Duration = Duration::from_millis(100);

/// After a failed write-back, pause until the next when nobody asks for one.
pub const WRITE_BACK_REST: Duration = Duration::from_secs(5);
