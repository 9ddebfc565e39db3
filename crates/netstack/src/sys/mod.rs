//! What needs `unsafe`: memory for buffers, and the ioctls of TAP devices.

mod buffers;
mod tap;

pub(crate) use buffers::{Buffers, LeasedSocket};
pub(crate) use tap::{attach, set_offload, set_queue_length};
