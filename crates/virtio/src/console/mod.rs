//! virtio-console (virtio 1.2, 5.3) with one named port, over a socket.
//!
//! ```text
//!  driver ─ DEVICE_READY ─► ─ PORT_ADD ─► driver ─ PORT_READY ─► ─ PORT_NAME, PORT_OPEN ─► driver
//!  driver ─ PORT_OPEN (1 or 0) ─► bytes go to it, or wait at the host
//! ```
//! Port 0, the one for a console, stays without a device; the named one is port 1, as QEMU has it.
//! The host's end counts as open until it is closed. What the guest says on the queue for control
//! is at most noted: it changes nothing but the two marks above.

mod device;
mod messages;

pub use device::local_port;
