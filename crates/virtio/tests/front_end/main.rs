//! The device as a front end sees it, a well-behaved one and others.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod driver;
mod filesystem;
mod garbage;
mod rings;
mod setup;
mod socket;
