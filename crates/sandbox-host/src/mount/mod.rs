//! Filesystems beside the root: the client's callbacks, and directories of the host.
//!
//! ```text
//! guest ─► engine ─► vfs::fuse::Server ─┬─► HostDir ─► the host's directory
//!                                       └─► CallbackFs ─► StreamCallbacks ─► Link ⇄ client
//! changes: Link, HostWatcher ─► Announcer ─► guest     problems: Reporter ─► journal
//! ```
//! - [`answer`]: what a client answers, checked.
//! - [`link`]: the stream that serves a mount.
//! - [`Mounts`]: what a VM has mounted.
//!
//! Refuses: answers that cannot be. A client that breaks the stream's protocol loses the stream, and
//! the guest gets EIO from then on.

mod announce;
pub mod answer;
mod callbacks;
pub mod link;
mod mounts;
mod report;

pub use mounts::Mounts;
pub use report::{Problem, Report};

/// Streams of mounts that are attached.
pub type Registry = crate::callback::Registry<link::Link>;
