//! The services of `lanebox.v1`: convert, call, convert. What they do is done in `lane` and `relay`.

mod block_store;
mod convert;
mod file;
mod filesystem;
mod image;
mod network;
mod process;
mod sandbox;

pub use block_store::BlockStores;
pub use file::Files;
pub use filesystem::Filesystems;
pub use image::Images;
pub use network::Networks;
pub use process::Processes;
pub use sandbox::Sandbox;

/// Who is on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The process that started us, on file descriptor 3.
    Owner,
    /// Whoever opened the debug socket: may look and exec.
    Debug,
}
