//! From a bare kernel to a machine that can run processes.
//!
//! ```text
//! early: /proc /sys /dev ─► control port ─► Configure ─► steps, each announced before it is tried
//!        (a failure is told on the console)              (a failure is the answer of the call)
//! ```

pub(crate) mod cgroup;
mod check;
pub(crate) mod configure;
pub(crate) mod early;
mod ext4;
mod files;
mod filesystems;
mod mounts;
mod names;
mod network;
mod root;
pub(crate) mod settings;
mod step;

pub(crate) use step::Step;
