//! Every limit of this crate, in one place.

use std::time::Duration;

/// Largest ring the front end may ask for (virtio 1.2, 2.6 allows 32,768; QEMU's limit is this).
pub const MAX_RING_SIZE: u16 = 1024;

/// Ring of a disk in this process: room for two of the largest requests.
pub const BLOCK_RING_SIZE: u16 = 256;

/// Ring of a console's port.
pub const PORT_RING_SIZE: u16 = 64;

/// Bytes that go through a port at once.
pub const PORT_PIECE: usize = 64 << 10;

/// Messages to a console's driver that are kept for it while it gives no place for them. It needs
/// three.
pub const MAX_CONSOLE_MESSAGES: usize = 32;

/// Bytes of the largest Ethernet frame: header, VLAN tag and a packet of 65,535 bytes.
pub const MAX_FRAME: usize = 18 + 65_535;

/// Random bytes that a request gets at most.
pub const MAX_RANDOM_BYTES: usize = 64 << 10;

/// Most queues of a device; a filesystem has one more, of high priority.
pub const MAX_QUEUES: u16 = 16;

/// Data segments of a request that a driver is told to stay within: with header and status, a
/// chain fills a ring of 128, QEMU's default.
pub const MAX_SEGMENTS: u32 = 126;

/// Bytes of a segment that a driver is told to stay within.
pub const MAX_SEGMENT_BYTES: u32 = 128 << 10;

/// Descriptors of a chain, from where on its ring is not served any more. Above what drivers are
/// told, because framing is theirs (virtio 1.2, 2.7.4.3).
pub const MAX_DESCRIPTORS: usize = 256;

/// Most bytes of a request that keeps to the two limits above; others are answered with an error.
pub const MAX_REQUEST_BYTES: u64 = MAX_SEGMENTS as u64 * MAX_SEGMENT_BYTES as u64;

/// Sectors of a range to discard or to zero that a driver is told to stay within: 256 MiB.
pub const MAX_ZERO_SECTORS: u32 = 512 << 10;

/// Such ranges in one request.
pub const MAX_ZERO_RANGES: u32 = 16;

/// Requests that are taken from a ring before other work has its turn.
pub const BATCH: usize = 128;

/// After this time a request is answered with an error.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// How long a filesystem's ring that is stopped waits for the requests under way: QEMU, and with it
/// the whole guest, stands still meanwhile.
pub const FILESYSTEM_STOP_PATIENCE: Duration = Duration::from_millis(100);

/// Memory regions of a guest (QEMU sends at most 8).
pub const MAX_MEMORY_REGIONS: usize = 16;

/// Memory of a guest.
pub const MAX_MEMORY_BYTES: u64 = 2 << 40;

/// Threads that read what is not in memory, started when needed.
pub const MAX_BLOCKING_THREADS: usize = 4;

/// Idle threads end after this time.
pub const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(5);

/// How long the end of a device waits for its idle threads, which takes them no time, and so for
/// one that hangs in the host's kernel, which is left behind then.
pub const BLOCKING_THREAD_END: Duration = Duration::from_millis(500);
