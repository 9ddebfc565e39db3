//! Where written blocks are kept.
//!
//! Owns the contract of a store ([`BlockStore`]), how its answers are checked, and two stores:
//! memory with a quota, and one crash-safe file.

pub(crate) mod answer;
mod contract;
mod error;
pub mod file;
mod memory;

pub use contract::{BlockChunk, BlockStore, Listing, StoreContext};
pub use error::{AnswerError, StoreError};
pub use file::{FileStore, FileStoreError, FileStoreSize};
pub use memory::MemoryStore;
