//! What a host directory mount is configured with.

use std::path::PathBuf;

use crate::CacheTimes;

/// What the guest may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look.
    ReadOnly,
    /// Change.
    ReadWrite,
}

/// Paths of the source that the guest does not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Relative to the source, normalised: `.git/hooks`, `node_modules`.
    pub paths: Vec<PathBuf>,
    /// Where they lead instead, at the same paths below this directory. Without it they are
    /// absent, and nothing can be made in their place.
    pub storage: Option<PathBuf>,
}

/// How much a guest may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostDirLimits {
    /// Inodes known at a time.
    pub inodes: usize,
    /// Descriptors kept for them; beyond it the ones not used for longest are closed and opened
    /// again by their path when needed.
    pub inode_descriptors: usize,
    /// Open files and directories.
    pub handles: usize,
    /// Pairs of a file and a process holding fcntl locks on it.
    pub lock_owners: usize,
}

impl HostDirLimits {
    /// Shares of the descriptors that this process may open.
    #[must_use]
    pub fn of_process() -> Self {
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = usize::try_from(most.unwrap_or(1 << 20)).unwrap_or(1 << 20);
        Self {
            inodes: 1 << 20,
            inode_descriptors: (most / 2).clamp(16, 1 << 16),
            handles: (most / 4).clamp(16, 1 << 16),
            lock_owners: (most / 16).clamp(8, 1 << 12),
        }
    }
}

impl Default for HostDirLimits {
    fn default() -> Self {
        Self::of_process()
    }
}

/// A host directory mount.
#[derive(Clone, Debug)]
pub struct HostDirOptions {
    /// The directory; may itself be reached through symlinks.
    pub source: PathBuf,
    /// What the guest may do.
    pub access: Access,
    /// What it does not get.
    pub mask: Mask,
    /// How long the guest believes what it saw. The host side may change at any time.
    pub cache: CacheTimes,
    /// Nobody but this guest writes: it may collect writes and keep data between opens.
    pub exclusive: bool,
    /// The user and group that files of this process' user and group have in the guest.
    pub guest_owner: (u32, u32),
    /// Whether set-user-id and set-group-id bits of files are shown and may be set.
    pub set_id: bool,
    /// Whether filesystems mounted below the source belong to it.
    pub submounts: bool,
    /// How much a guest may hold.
    pub limits: HostDirLimits,
}

impl HostDirOptions {
    /// The defaults: no mask, one second of caching, guest root owns what this process' user owns.
    pub fn new(source: impl Into<PathBuf>, access: Access) -> Self {
        Self {
            source: source.into(),
            access,
            mask: Mask::default(),
            cache: CacheTimes::of(std::time::Duration::from_secs(1)),
            exclusive: false,
            guest_owner: (0, 0),
            set_id: false,
            submounts: false,
            limits: HostDirLimits::default(),
        }
    }
}

/// Why a host directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HostDirError {
    /// The source or a directory of the mask's storage cannot be opened.
    #[error("Cannot open the directory {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path of the mask could mean something else than it says.
    #[error("Mask path {path} is not a normalised path relative to the source")]
    MaskPath {
        /// Which.
        path: PathBuf,
    },
    /// The mask's storage lies in the source, or the other way round.
    #[error("Mask storage {storage} and source {source_path} contain one another")]
    Nested {
        /// One.
        storage: PathBuf,
        /// The other.
        source_path: PathBuf,
    },
    /// Such a filesystem gives more than files.
    #[error("{path} lies in a {kind} filesystem, which is not served")]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// `/proc` is needed to open files by descriptor.
    #[error("/proc/self/fd cannot be used")]
    Proc(#[source] std::io::Error),
}
