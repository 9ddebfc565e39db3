//! A network for one guest, in user space: frames in, flows decided one by one, host sockets out.

pub mod names;
