//! Images of OCI registries: what a reference names is downloaded, checked, and merged into one
//! tree of files. Neither the registry nor the image is trusted.
//!
//! ```text
//!  reference ─► registry ─► index ─► manifest ─► config       (digest of the raw bytes)
//!                  │                     │
//!                  └──── blob cache ◄────┴─ layers            (digest, size, while they stream)
//!                            │
//!                 layer: gzip | zstd | tar ─► unnamed file    (digest again, diff_id, limits)
//!                            │
//!                 archive: members ─► tree: whiteouts, links  (names never reach the host)
//! ```
//!
//! To read first: the OCI distribution and image specifications 1.1 (manifest.md, config.md,
//! layer.md), Docker's image manifest version 2 schema 2, and POSIX pax.
//!
//! References and the manifests' types are those of `oci-client`. Its requests are not used: they
//! read manifests, tokens and errors into memory whatever their size, and follow a redirection
//! from https to http. [`Registry`] makes them itself, each with a bound and a deadline.
//!
//! Refused, by name: references without a digest, schema 1, layers that are not distributed with
//! the image, credential helpers, names that are absolute or climb or lead through a link, and
//! whatever is larger than the [`Limits`].

mod archive;
mod blob_cache;
mod challenge;
mod config;
mod credentials;
mod digest;
mod download;
mod error;
mod fetch;
mod fuzz;
mod hashing;
mod layer;
mod limits;
mod manifest;
mod merge;
mod name;
mod pax;
mod plain_http;
mod progress;
mod reference;
mod registry;
mod shown;
mod sparse;
#[cfg(test)]
mod testing;
mod tree;

pub use archive::ReadAt;
pub use blob_cache::BlobCache;
pub use config::ImageConfig;
pub use credentials::Credentials;
pub use digest::Digest;
pub use download::{Download, Layer, download};
pub use error::{Error, Result};
pub use fuzz::{fuzz_documents, fuzz_layers};
pub use limits::{Limits, Patience};
pub use manifest::{Compression, ImageManifest, LayerDescriptor, Manifest};
pub use merge::{Merged, merge};
pub use name::NameProblem;
pub use plain_http::PlainHttp;
pub use progress::{Progress, Silent, Step};
pub use reference::Reference;
pub use registry::Registry;
pub use sparse::Piece;
pub use tree::{Budget, Content, EntryProblem, Kind, Node, Tree};
