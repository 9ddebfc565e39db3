//! A block store that the client serves, as a store of `blockcow`.
//!
//! ```text
//! blockcow::Disk ─► StreamStore ─► link::StoreLink ⇄ client's block store
//! ```
//! What the blocks are is checked in `blockcow`; here, that an answer is of the right kind and no
//! larger than it may be. A client that breaks the protocol loses the stream, and every call fails
//! from then on.

pub mod answer;
pub mod link;
mod store;

pub use store::StreamStore;

/// Streams of block stores that are attached.
pub type Registry = crate::callback::Registry<link::StoreLink>;
