//! Writable disks: against a byte array, against stores that fail, and as images.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "these are tests, helpers included"
)]

mod durability;
mod failures;
mod flattened;
mod model;
mod options;
mod store;
mod support;
