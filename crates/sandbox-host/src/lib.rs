//! The helper process: one microVM, spoken to over gRPC on file descriptor 3.
//!
//! ```text
//! client ── lanebox.v1 on fd 3 ──► server ► service ─┬─► lane (one task owns the VM) ──► engine
//!                                                    └─► relay ──► guest ── lanebox.guest.v1 ──►
//! ```
//! Owns the life of one VM, the client's connection, and what passes between client and guest.
//! Refuses: a second boot; anything from the guest that its protocol does not allow; a limit that
//! is not in [`limits`]. The process is single-threaded but for hashing files, logging and the
//! devices of the engine; nothing blocks its one event loop.

pub mod args;
pub mod artifact;
#[cfg(debug_assertions)]
pub mod attempt;
pub mod block_store;
pub mod callback;
pub mod confine;
pub mod console;
pub mod debug;
pub mod disk;
pub mod error;
pub mod flatten;
pub mod granted;
pub mod guest;
pub mod lane;
pub mod limits;
pub mod logging;
pub mod mount;
pub mod network;
mod refusals;
pub mod relay;
pub mod request;
pub mod server;
pub mod service;
pub mod signals;
pub mod status;
mod sys;
pub mod watched;
