//! Every bound of this process, in one place. None is silent: what reaches one gets an error that
//! names it, or is counted where the reader sees the count.
//!
//! # Flow control
//! HTTP/2 has a window for each stream and one for the connection, and a byte that nobody has read
//! counts against both. So one unread stream must never be able to fill the connection's window, or
//! it stops all others, new calls included. The connection's window is therefore the stream's window
//! times the streams that can be open at once, on both hops:
//!
//! ```text
//! fd 3, towards us:  512 KiB × 3,072 streams = 1.5 GiB < 2³¹ − 1 bytes, the most HTTP/2 can say
//! guest, towards us: 256 KiB × 2,368 streams = 592 MiB
//! ```
//! These are promises, not reservations: memory is used only by what a peer has sent and nobody has
//! taken, at most one stream window for each open call.
//!
//! # No keepalive
//! HTTP/2 PING with a timeout is off on both hops. On fd 3 the kernel tells at once when the client
//! is gone. Towards the guest a missing answer proves nothing: under emulation, with a fork bomb
//! inside, a healthy init may not get the processor for longer than any timeout worth having. A
//! guest that hangs is ended by the deadlines of the calls below, by the caller's own time limits,
//! and by `Shutdown`, which kills.

use std::time::Duration;

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// `ProcessService.Run` calls at once, and as many of `ProcessService.Wait`, of all clients together;
/// one more is `LIMIT_EXCEEDED`.
pub const MAX_RUNS: u32 = 1024;
/// `SandboxService.Watch` calls at once, of all clients together; one more is `LIMIT_EXCEEDED`.
pub const MAX_WATCHERS: u32 = 64;
/// Filesystems beside the root (lanebox/v1/sandbox.proto), and `ServeFilesystem` calls that wait for
/// Boot; one more is `LIMIT_EXCEEDED`.
pub const MAX_MOUNTS: usize = engine::VmSpec::MAX_FILESYSTEMS;
/// `FileService` calls at once, of all clients together; one more is `LIMIT_EXCEEDED`.
pub const MAX_FILE_CALLS: u32 = 256;
/// Connections to the debug socket at once; one more is closed.
pub const MAX_DEBUG_CONNECTIONS: usize = 8;

/// Streams that a client may have open on its connection (SETTINGS_MAX_CONCURRENT_STREAMS). More
/// than all calls that have a limit together, so that a refused call gets its error at once
/// and `Signal` and `Shutdown` are never queued behind processes that run.
pub const CLIENT_STREAMS: u32 = 3072;
/// Window of each stream from the client: standard input that the guest has not taken.
pub const CLIENT_STREAM_WINDOW: u32 = 512 * KIB;
/// Window of the whole connection from the client; see the module's arithmetic.
pub const CLIENT_CONNECTION_WINDOW: u32 = CLIENT_STREAMS * CLIENT_STREAM_WINDOW;
/// Largest list of headers that a client may send.
pub const CLIENT_HEADER_BYTES: u32 = 64 * KIB;
/// Largest request: a `StartProcess` holds arguments and environment, which Linux limits to 2 MiB.
pub const CLIENT_MESSAGE_BYTES: usize = 4 * MIB as usize;
/// Time for the first message of `Run` to come.
pub const FIRST_MESSAGE: Duration = Duration::from_secs(30);

/// Largest `stdin` message (lanebox/v1/process.proto).
pub const STDIN_MESSAGE_BYTES: usize = MIB as usize;
/// Largest `stdout` or `stderr` message (lanebox/v1/process.proto).
pub const OUTPUT_MESSAGE_BYTES: usize = 256 * KIB as usize;

/// Largest message of `ServeFilesystem`: 1 MiB of data or of entries, and its framing.
pub const FILESYSTEM_MESSAGE_BYTES: usize = MIB as usize + 64 * KIB as usize;
/// Most credits of `AttachFilesystem` (lanebox/v1/filesystem.proto).
pub const MAX_CREDITS: u16 = 1024;
/// Bytes of writes to one callback mount that are not answered yet; further ones wait.
pub const FILESYSTEM_WRITE_BYTES: u32 = 64 * MIB;
/// Entries of one directory that a callback may list.
pub const FILESYSTEM_ENTRIES: usize = 1 << 18;
/// Entries of lists of one stream that have come in part; a list beyond it is a wrong answer.
pub const FILESYSTEM_GATHERED: usize = 1 << 20;
/// Paths in one message of changes, both of the client and to the guest; and changes of one mount
/// that wait for the guest.
pub const FILESYSTEM_CHANGES: usize = 1024;
/// File requests of one mount in work at a time; further ones wait.
pub const FILESYSTEM_REQUESTS: usize = 256;
/// Block stores that a client may serve to one VM.
pub const MAX_BLOCK_STORES: usize = 1;
/// Largest message of `ServeBlockStore`: 1 MiB that was read, or one block, and its framing.
pub const BLOCK_STORE_MESSAGE_BYTES: usize = 4 * MIB as usize + 64 * KIB as usize;
/// Bytes of writes to one block store that are not answered yet; further ones wait.
pub const BLOCK_WRITE_BYTES: u32 = 64 * MIB;
/// Numbers in one piece of a store's list (lanebox/v1/block_store.proto).
pub const BLOCKS_PER_PIECE: usize = 65_536;
/// Blocks in one `discard` (lanebox/v1/block_store.proto).
pub const BLOCKS_PER_DISCARD: usize = 16_384;
/// Runs of blocks in lists that have come in part; 64 MiB of memory.
pub const BLOCK_RUNS_HELD: usize = 1 << 22;
/// Time for a callback, when the VM is closing.
pub const CALLBACK_CLOSING: Duration = Duration::from_millis(300);
/// Changes are gathered for this long before the guest is told.
pub const GATHER_CHANGES: Duration = Duration::from_millis(20);
/// Time for the guest to tell what its processes use (lanebox/v1/sandbox.proto).
pub const GUEST_USAGE: Duration = Duration::from_secs(1);
/// Time for the guest to announce changes to its watchers.
pub const GUEST_ANNOUNCE: Duration = Duration::from_secs(30);
/// Time for a callback when the mount names none (lanebox/v1/mount.proto).
pub const CALLBACK_DEFAULT: Duration = Duration::from_secs(30);
/// Longest time that a guest may believe a callback's answer (lanebox/v1/mount.proto).
pub const CALLBACK_CACHE_MAX_MS: u32 = 60_000;
/// Bytes of an open file that has lost its last name: when the mount does not say, and at most.
pub const UNLINKED_BYTES: (u64, u64) = (64 << 20, 1 << 30);
/// Masked paths of one bind mount.
pub const MAX_MASKS: usize = 1024;

/// Addresses to which QUIC is refused because a policy's callback has let HTTP through to them.
pub const INTERCEPTED_ADDRESSES: usize = 1024;
/// `ServeNetwork` calls that wait for the Boot or the SetNetworkPolicy that names them; one more is
/// `LIMIT_EXCEEDED`.
pub const MAX_NETWORK_STREAMS: usize = 4;
/// Policies with callbacks that have flows, or are in force; one more is `LIMIT_EXCEEDED`.
pub const MAX_NETWORK_POLICIES: u32 = 16;
/// Rules of a policy (lanebox/v1/network.proto) …
pub const MAX_RULES: usize = 1024;
/// … the blocks, and the ranges of ports, of one …
pub const MAX_RULE_ITEMS: usize = 256;
/// … and its header fields …
pub const MAX_HEADERS: usize = 64;
/// … together.
pub const HEADER_BYTES: usize = 64 * KIB as usize;
/// Resolvers of a rule or of an answer (lanebox/v1/network.proto).
pub const MAX_RESOLVERS: usize = 16;
/// Bytes of a policy's own roots (lanebox/v1/network.proto).
pub const MAX_EXTRA_ROOT_BYTES: usize = MIB as usize;
/// Longest time for an answer about a flow or a request (lanebox/v1/network.proto).
pub const MAX_POLICY_DEADLINE_MS: u32 = 3_600_000;
/// Secrets of a guest (lanebox/v1/network.proto), the hosts of one …
pub const MAX_SECRETS: usize = 256;
/// … that may have it …
pub const MAX_SECRET_HOSTS: usize = 256;
/// … and its length.
pub const SECRET_BYTES: usize = 64 * KIB as usize;
/// Names of a destination that a policy is told (lanebox/v1/network.proto).
pub const FLOW_NAMES: usize = 64;
/// Header fields that a middleware may answer with …
pub const VERDICT_HEADERS: usize = 1024;
/// … together.
pub const VERDICT_HEADER_BYTES: usize = 256 * KIB as usize;
/// Body that a middleware may answer with (lanebox/v1/network.proto).
pub const VERDICT_BODY_BYTES: usize = MIB as usize;
/// Most of a reason or of a problem that is kept (lanebox/v1/network.proto).
pub const REASON_BYTES: usize = KIB as usize;
/// Messages of `ServeNetwork` beside questions that the client has not read: each flow that it
/// has decided about ends once.
pub const NETWORK_NOTICES: usize = 4096;
/// Sets of resolvers that callbacks have named, each with its cache; what comes above has none.
pub const RESOLVER_SETS: usize = 64;
/// Flows to the resolver whose verdict is remembered while they are asked again.
pub const RESOLVER_FLOWS: usize = 1024;
/// Events of a network of each kind that are told in a second; the others are counted.
pub const NETWORK_EVENTS: u32 = 256;
/// Addresses of a DnsRecord (lanebox/v1/network.proto).
pub const RECORD_ADDRESSES: usize = 64;
/// Time for the network to end with its VM.
pub const NETWORK_END: Duration = Duration::from_secs(2);
/// Ports that are published at a time; one more is `LIMIT_EXCEEDED`. Connections to them count among
/// netstack's, and are reset above its limit.
pub const MAX_PUBLISHED: u32 = 256;

/// Largest piece of a file (lanebox/v1/file.proto) …
pub const FILE_PIECE_BYTES: usize = 256 * KIB as usize;
/// … and what a client may send of one in one message.
pub const FILE_WRITE_BYTES: usize = MIB as usize;
/// Entries of a directory in one message (lanebox/v1/file.proto).
pub const DIRECTORY_PIECE_ENTRIES: usize = 256;
/// Directories in directories of a tree that is copied (lanebox/v1/file.proto).
pub const TREE_DEPTH: usize = 256;
/// A guest that could answer about its files, or take what is written, and does not, is given up
/// after this. Longer than a callback of a mount may take.
pub const FILE_SILENCE: Duration = Duration::from_secs(120);

/// Streams that are open towards the guest at once: each `Run`, each `Wait`, each call about files,
/// and the calls beside them.
pub const GUEST_STREAMS: u32 = 2 * MAX_RUNS + MAX_FILE_CALLS + 64;
/// Window of each stream from the guest: output that the client has not taken.
pub const GUEST_STREAM_WINDOW: u32 = 256 * KIB;
/// Window of the whole connection from the guest; see the module's arithmetic.
pub const GUEST_CONNECTION_WINDOW: u32 = GUEST_STREAMS * GUEST_STREAM_WINDOW;
/// Largest list of headers that the guest may send; an `ErrorDetail` travels in them.
pub const GUEST_HEADER_BYTES: u32 = 32 * KIB;
/// Largest answer of `GuestService`.
pub const GUEST_MESSAGE_BYTES: usize = 64 * KIB as usize;
/// Largest answer of `Run`: one piece of output and its framing.
pub const GUEST_RUN_MESSAGE_BYTES: usize = OUTPUT_MESSAGE_BYTES + KIB as usize;
/// Calls of the guest that are reset by us and not yet forgotten; beyond it the connection ends.
pub const GUEST_RESET_STREAMS: usize = GUEST_STREAMS as usize;
/// Most of a sentence that the guest says about an error; the rest is cut off.
pub const GUEST_SENTENCE_BYTES: usize = KIB as usize;
/// Boot steps that a guest may announce.
pub const GUEST_BOOT_STEPS: usize = 64;
/// Warnings of a guest's set-up that are passed on (lanebox/guest/v1/guest.proto).
pub const GUEST_WARNINGS: usize = 16;
/// Problems that a guest may tell of at its shutdown (lanebox/guest/v1/guest.proto).
pub const GUEST_SHUTDOWN_PROBLEMS: usize = 16;

/// Time for the guest to say that a process runs, or that it does not. Long, because a guest under
/// emulation with thousands of processes is slow, not dead.
pub const PROCESS_START: Duration = Duration::from_secs(60);
/// Time for the guest to send a signal.
pub const PROCESS_SIGNAL: Duration = Duration::from_secs(60);
/// Time, beyond a process's own `timeout_ms` and the second between SIGTERM and SIGKILL, in which
/// the guest must say that it has ended.
pub const PROCESS_TIMEOUT_MARGIN: Duration = Duration::from_secs(30);
/// Time for the guest to end a call after its last message.
pub const RUN_END: Duration = Duration::from_secs(10);

/// Least memory for the changes of a root: the journal of an ordinary image and what ext4 keeps of
/// itself take a third of it.
pub const MIN_QUOTA_BYTES: u64 = 16 << 20;
/// Memory for changes on their way to a store of the client, when the request names none
/// (lanebox/v1/sandbox.proto).
pub const DIRTY_BYTES_DEFAULT: u64 = 64 << 20;
/// Largest piece of a disk in one answer (lanebox/v1/image.proto).
pub const DISK_PIECE_BYTES: usize = 256 * KIB as usize;
/// Time for the last write-back of a root, after the guest has ended, at least.
pub const DISK_CLOSE: Duration = Duration::from_millis(500);

/// Boot deadline when the request names none (lanebox/v1/sandbox.proto).
pub const BOOT_DEFAULT: Duration = Duration::from_secs(60);
/// Longest boot or shutdown deadline that a request may name.
pub const MAX_DEADLINE_MS: u32 = 600_000;
/// Shutdown deadline when the request names none (lanebox/v1/sandbox.proto).
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(4);
/// Time that the guest's processes get between SIGTERM and SIGKILL at shutdown; a quarter of the
/// deadline when that is shorter.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);
/// Time for a killed engine to be gone before we report that it is.
pub const ENGINE_GONE: Duration = Duration::from_secs(5);
/// Time for the engine to end by itself after the control channel broke.
pub const CHANNEL_LOST: Duration = Duration::from_secs(3);
/// Time for the rest of the console to arrive after the engine has ended.
pub const CONSOLE_DRAIN: Duration = Duration::from_millis(500);
/// Time for the lane to end when this process has to.
pub const LANE_END: Duration = Duration::from_secs(3);

/// Console bytes that are kept.
pub const CONSOLE_RING: usize = 256 * KIB as usize;
/// Largest piece of console in one event.
pub const CONSOLE_PIECE: usize = 32 * KIB as usize;
/// Console bytes in `Exited` and `GetStatusResponse`.
pub const CONSOLE_TAIL: usize = 16 * KIB as usize;
/// Console bytes in an error. Less, because it travels in the trailers, base64, and common clients
/// refuse more than 16 KiB of headers.
pub const CONSOLE_TAIL_IN_ERROR: usize = 8 * KIB as usize;
/// Events that are kept for a watcher that is behind; older ones become a warning with their number.
pub const EVENTS_KEPT: usize = 4096;
/// Commands waiting for the lane's task.
pub const LANE_COMMANDS: usize = 64;

/// Variables in a request's environment.
pub const MAX_ENV: usize = 4096;
/// Bytes of a path in a request (Linux PATH_MAX).
pub const MAX_PATH: usize = 4096;
/// Bytes of a name in a directory (Linux NAME_MAX).
pub const MAX_NAME: usize = 255;
/// Bytes of `StartProcess.user`.
pub const MAX_USER: usize = 256;
/// Arguments of a process.
pub const MAX_ARGS: usize = 65_536;

/// Threads for blocking work: probing, opening and hashing files. Disks have threads of their own.
/// They end when they have been idle for ten seconds.
pub const BLOCKING_THREADS: usize = 4;

const _: () = assert!(
    CLIENT_STREAMS as usize
        > (2 * MAX_RUNS + MAX_FILE_CALLS + MAX_WATCHERS) as usize
            + 2 * (MAX_MOUNTS + MAX_BLOCK_STORES)
            + MAX_NETWORK_STREAMS
            + MAX_NETWORK_POLICIES as usize
);
const _: () = assert!((CLIENT_STREAMS as u64 * CLIENT_STREAM_WINDOW as u64) < (1 << 31));
