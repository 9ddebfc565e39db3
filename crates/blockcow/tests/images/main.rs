//! Images that others made, read and refused.
//!
//! Skipped by name when `qemu-img` is not there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod damage;
mod reading;
mod refusing;
mod support;
