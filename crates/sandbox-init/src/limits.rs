//! Every limit of PID 1, in one place. The host is trusted not to attack us, but what it sends can
//! be driven by its users, and what the workload does must not exhaust the one process that the
//! guest cannot do without.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// -- HTTP/2 ---------------------------------------------------------------------------------------

/// `Run` calls that are open at a time. One more is refused with LIMIT_EXCEEDED.
pub(crate) const MAX_RUNS: usize = 4096;
/// HTTP/2 streams at a time: every `Run`, and room for the calls that control them. A client that
/// honours it delays the next call, so it is larger than what `MAX_RUNS` lets in.
pub(crate) const MAX_STREAMS: u32 = 4096 + 64;
/// What the host may send ahead on one call. It bounds how much unread standard input waits here.
pub(crate) const STREAM_WINDOW: u32 = 128 * 1024;
/// What the host may send ahead on all calls: all their windows, so that processes that do not read
/// their input never stop the others, or a `Signal`, from being heard.
pub(crate) const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Largest HTTP/2 frame that we take. More would only delay the frames of other calls.
pub(crate) const MAX_FRAME: u32 = 32 * 1024;
/// Bytes of headers that one call may carry.
pub(crate) const MAX_HEADERS: u32 = 16 * 1024;
/// Bytes of answers that wait for the host on one call, beside one message.
pub(crate) const SEND_BUFFER: usize = 64 * KIB;
/// Largest request: arguments and environment of a process (the kernel takes about 2 MiB of them)
/// or 1 MiB of standard input.
pub(crate) const MAX_REQUEST: usize = 4 * MIB;

/// Bytes that go to the port in one write: what the kernel's driver takes at most.
pub(crate) const PORT_WRITE: usize = 32 * KIB;

// -- Processes ------------------------------------------------------------------------------------

/// Bytes of standard input in one message (lanebox.v1.RunRequest).
pub(crate) const MAX_STDIN_MESSAGE: usize = MIB;
/// Bytes of output in one message (lanebox.v1.RunResponse) …
pub(crate) const MAX_OUTPUT_MESSAGE: usize = 256 * KIB;
/// … and when many processes run, of all of them together: each call holds at most one message that
/// the host does not take, and gets a share of this.
pub(crate) const OUTPUT_BUDGET: usize = 16 * MIB;
/// Bytes that are still read from a terminal after its process has exited, unless it is empty
/// before: more than its buffers hold (64 KiB of the driver, 4 KiB of the line discipline), so that
/// only what a background process goes on writing is left out.
pub(crate) const TERMINAL_REST: usize = 128 * KIB;
/// A call must say what to run within this time.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(30);
/// Looking the command up and executing it may take this long (a filesystem of the guest may be
/// served by a process of the guest).
pub(crate) const EXEC_DEADLINE: Duration = Duration::from_secs(30);
/// From SIGTERM to SIGKILL when a process is terminated (lanebox.v1.StartProcess.timeout_ms).
pub(crate) const GRACE: Duration = Duration::from_secs(1);
/// A process that SIGKILL does not end within this time (it waits in the kernel, for a device or a
/// filesystem server) is reported as such; it is still reaped when it ends.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of /etc/passwd and of /etc/group that are read; larger ones are an error.
pub(crate) const MAX_ACCOUNT_FILE: usize = MIB;
/// Groups that one user may be in; more are an error. The kernel's own limit is 65536.
pub(crate) const MAX_GROUPS: usize = 1024;

// -- Files ----------------------------------------------------------------------------------------

/// `FileService` calls at a time, each a process of its own. One more is refused with
/// LIMIT_EXCEEDED.
pub(crate) const MAX_FILE_CALLS: usize = 512;
/// Bytes of a file in one message (lanebox.v1.ReadFileResponse, lanebox.v1.TreePiece).
pub(crate) const FILE_PIECE: usize = 256 * KIB;
/// Entries of a directory in one message (lanebox.v1.ReadDirectoryResponse).
pub(crate) const DIRECTORY_PIECE: usize = 256;
/// Directories in directories of a tree that is copied (lanebox.v1.TreeEntry).
pub(crate) const TREE_DEPTH: usize = 256;

// -- Boot -----------------------------------------------------------------------------------------

/// The kernel must show the control port within this time.
pub(crate) const PORT_DEADLINE: Duration = Duration::from_secs(5);
/// The host must open its side of the control port within this time.
pub(crate) const HOST_DEADLINE: Duration = Duration::from_secs(60);
/// The kernel must show the root disk within this time.
pub(crate) const DEVICE_DEADLINE: Duration = Duration::from_secs(5);
/// How often the three above look again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// A boot step waits at most this long for its announcement to have left.
pub(crate) const ANNOUNCE_DEADLINE: Duration = Duration::from_secs(1);
/// The console gets this long to show the last words before the machine is reset.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(100);

/// Memory that the workload's cgroup leaves to PID 1 and the kernel: a sixteenth, within these.
pub(crate) const MEMORY_RESERVE: std::ops::RangeInclusive<u64> =
    (8 * MIB as u64)..=(64 * MIB as u64);
/// Processes that the workload's cgroup leaves below the kernel's own limit: a sixteenth, at least
/// this many.
pub(crate) const PIDS_RESERVE: u64 = 64;
/// Open files that a process may ask for, and that PID 1 may have (four for each `Run`) …
pub(crate) const MAX_OPEN_FILES: u64 = 1_048_576;
/// … and that it starts with: what select(2) can do.
pub(crate) const OPEN_FILES: u64 = 1024;

// -- Files ----------------------------------------------------------------------------------------

/// Paths of one `AnnounceChanges` (lanebox.guest.v1.AnnounceChangesRequest).
pub(crate) const MAX_CHANGES: usize = 1024;
/// Announcing may take this long, and waiting for one's turn as long again.
pub(crate) const CHANGES_DEADLINE: Duration = Duration::from_secs(10);

// -- Shutdown -------------------------------------------------------------------------------------

/// Longest time between SIGTERM and SIGKILL that a host can ask for.
pub(crate) const MAX_SHUTDOWN_GRACE: Duration = Duration::from_secs(60);
/// After SIGKILL the workload must be gone within this time, or is left behind.
pub(crate) const EMPTY_DEADLINE: Duration = Duration::from_secs(2);
/// Syncing and unmounting may take this long before the answer is sent without it.
pub(crate) const UNMOUNT_DEADLINE: Duration = Duration::from_secs(20);
/// Problems of a shutdown that are told (lanebox.guest.v1.ShutdownResponse) …
pub(crate) const MAX_PROBLEMS: usize = 16;
/// … and the bytes of each.
pub(crate) const MAX_PROBLEM: usize = 512;
/// After the answer the host gets this long to close its side; then the machine is reset anyway.
pub(crate) const HOST_CLOSES: Duration = Duration::from_millis(250);
