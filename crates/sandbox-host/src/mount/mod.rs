//! Filesystems beside the root: the client's callbacks, and directories of the host.
//!
//! ```text
//! guest ─► engine ─► vfs::fuse::Server ─┬─► HostDir ─► the host's directory
//!                                       └─► CallbackFs ─► StreamCallbacks ─► Link ⇄ client
//! changes: Link, HostWatcher ─► Announcer ─► guest     problems: Reporter ─► journal
//! ```
//! - [`answer`]: what a client answers, checked.
//! - [`link`]: questions and answers of one stream, with its credits.
//! - [`registry`]: streams that are attached, by the names that Boot uses.
//! - [`Mounts`]: what a VM has mounted.
//!
//! Refuses: more unanswered questions than the client gave credits; answers that cannot be. A
//! client that breaks the stream's protocol loses the stream, and the guest gets EIO from then on.

mod announce;
pub mod answer;
mod callbacks;
pub mod link;
mod mounts;
pub mod registry;
mod report;
mod stream;

pub use mounts::Mounts;
pub use report::{Problem, Report};
pub(crate) use stream::check_id;
pub use stream::{Questions, serve};
