//! A directory of the host, served to a guest (`fs.bind`).
//!
//! Owns: inodes by descriptor, what is hidden or redirected in the tree (masks), ownership, locks.
//! Refuses: to follow anything. Every step is one name relative to a directory's `O_PATH`
//! descriptor, by `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)`; symlinks
//! are objects that only the guest resolves, in its own tree. Filesystems mounted below the source
//! are not entered unless asked for, and never procfs and its like. Devices are never made or
//! opened; set-id bits neither shown nor set unless asked for.
//!
//! ```text
//! (inode, name) ─► Place (directory descriptor after masks) ─► statx/openat2 ─► Node ─► Entry
//! inode ─► Node ─► O_PATH descriptor ─► /proc/self/fd/N ─► opened file (only files, directories)
//! ```
//!
//! Checks of permission between the guest's users are the guest kernel's (virtio-fs always has
//! `default_permissions`); on the host everything happens with this process' own rights.
//! To read beside it: openat2(2), `Documentation/filesystems/path-lookup.rst`.

mod attributes;
mod directories;
mod file_system;
mod files;
mod guest_changes;
mod locks;
mod mask;
mod names;
mod node;
mod node_table;
mod options;
mod owners;
mod place;
mod proc_fd;
mod source;
mod watch;
mod xattrs;

pub use file_system::{Held, HostDir};
pub use options::{Access, HostDirError, HostDirLimits, HostDirOptions, Mask};
pub use watch::HostWatcher;
