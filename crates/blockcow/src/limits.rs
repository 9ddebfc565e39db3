//! Every limit of this crate, in one place.

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
