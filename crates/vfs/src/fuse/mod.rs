//! The FUSE server: requests as bytes in, replies as bytes out.
//!
//! ```text
//! bytes ──► request (checked once) ──► server (state, read-only, slot, deadline)
//!                                         └─► dispatch ──► FileSystem ──► reply ──► bytes
//! ```
//!
//! Owns the protocol: decoding, negotiation, which requests are refused whatever the backend says,
//! how many are in work, how long each may take. Knows no transport: a virtqueue or /dev/fuse
//! gives it [`Readable`](crate::Readable) and [`Writable`](crate::Writable).
//!
//! The decoder is our own, not that of a crate: fuse-backend-rs awaits ten operations only where
//! callbacks need all of them, checks of a name only that it has an end, and is bound to another
//! vm-memory than our devices. What is left of its work, some fifty structures read field by
//! field, is in `arguments` and `reply`.
//!
//! To read beside it: `include/uapi/linux/fuse.h`, `Documentation/filesystems/fuse.rst`.

mod abi;
mod arguments;
mod cursor;
mod directory;
mod dispatch;
mod init;
mod reply;
mod request;
mod server;

pub use abi::Opcode;
pub use directory::DirectorySink;
pub use init::Agreement;
pub use request::{Header, Offer, Operation};
pub use server::{Limits, Serve, Server};

/// The longest write, and read, in bytes.
pub const MAX_WRITE: u32 = 1024 * 1024;
/// The same in pages of 4 KiB.
const MAX_PAGES: u16 = 256;
/// The longest request: a write with its header and arguments.
pub const MAX_REQUEST: usize = 1024 * 1024 + 4096;
