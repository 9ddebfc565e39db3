//! The streams of callbacks that a client has attached to a lane.

use crate::{block_store, mount, network};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Filesystems.
    pub(super) filesystems: mount::Registry,
    /// Block stores.
    pub(super) block_stores: block_store::Registry,
    /// Network policies.
    pub(super) networks: network::Registry,
}

impl Streams {
    /// The VM has ended: so do the streams that nobody took.
    pub(super) fn end(&self) {
        self.filesystems.end();
        self.block_stores.end();
        self.networks.end();
    }
}
