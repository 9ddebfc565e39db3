//! How much of an image is taken in, and how long anything is waited for.

use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// Bounds on what a registry hands out. Each that is passed is an error that names it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of an index or a manifest; registries refuse larger ones than 4 MiB, too.
    pub manifest_bytes: u64,
    /// Bytes of an image's configuration.
    pub config_bytes: u64,
    /// Layers of an image; Docker makes 127 at most.
    pub layers: usize,
    /// Bytes of one layer, compressed and uncompressed alike.
    pub layer_bytes: u64,
    /// Bytes of all layers, uncompressed.
    pub image_bytes: u64,
    /// Members of all layers' archives.
    pub entries: u64,
    /// Bytes of all names, link targets and extended attributes, in memory.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 4 * MIB,
            config_bytes: 4 * MIB,
            layers: 127,
            layer_bytes: 8 * 1024 * MIB,
            image_bytes: 16 * 1024 * MIB,
            entries: 2_000_000,
            metadata_bytes: 512 * MIB,
        }
    }
}

/// How long a registry may take.
#[derive(Debug, Clone)]
pub struct Patience {
    /// For a connection to be made.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// For a whole answer that is small: a token, a manifest, a configuration.
    pub exchange: Duration,
    /// Bytes a second that a layer must come with on the whole, beside the time of an exchange.
    pub slowest: u64,
    /// How often a request is made before its failure counts.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            exchange: Duration::from_mins(2),
            slowest: 16 * 1024,
            attempts: 4,
            pause: Duration::from_secs(1),
        }
    }
}
