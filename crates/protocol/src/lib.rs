//! The messages and services of Lanebox, generated from `proto/`.
//!
//! ```text
//! Node program ── lanebox.v1 on fd 3 ──► sandbox-host ── lanebox.guest.v1 on a console port ──► sandbox-init
//! ```
//! Beside the generated code there is one hand-written thing: how an [`ErrorDetail`] travels in a
//! gRPC status ([`status`]).

pub mod status;

/// Node program to sandbox-host (`proto/lanebox/v1`).
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    clippy::nursery,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("lanebox.v1");
}

/// Sandbox-host to sandbox-init (`proto/lanebox/guest/v1`).
pub mod guest {
    /// Version 1.
    #[allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        clippy::nursery,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("lanebox.guest.v1");
    }
}

pub use v1::{ErrorCode, ErrorDetail};

/// Name of the virtio-console port that carries `lanebox.guest.v1`.
pub const CONTROL_PORT: &str = "lanebox.control";

/// Encoded `FileDescriptorSet` of everything in `proto/`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
