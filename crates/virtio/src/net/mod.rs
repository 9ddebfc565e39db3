//! virtio-net (virtio 1.2, 5.1) over a stream of frames, each with its length before it: 4 bytes,
//! the highest first.
//!
//! ```text
//!  guest ─► queue 1: chain ─► header off ─► frames::Outgoing ─► socket
//!  guest ◄─ queue 0: chain ◄─ header on ◄── frames::Incoming ◄─ socket
//! ```
//! A chain of queue 0 is a request that waits for a frame; they get them in their order. No
//! offloads are offered: what has no checksum could not be said on the stream. Frames that are
//! larger than what the guest has room for are dropped, as on a wire.

mod device;
mod frames;

pub use device::local_network;
