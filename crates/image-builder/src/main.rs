//! Builds a root filesystem image: tar archives and a written tree, or an image of an OCI registry,
//! in, `rootfs.qcow2` and `image.json` out. The same inputs give the same bytes on every machine and for every user.
//!
//! ```text
//!  a.tar ──┐ archive                         facts ──► image.json
//!          ├──────────► Tree ──► filesystem ───┐ descriptor
//!  tree ───┤ manifest     │      (raw ext4)    │
//!  oci: ───┘ oci_source   └──────────────────► qcow2 ──► rootfs.qcow2
//! ```
//!
//! It needs no privileges: owners, modes and device nodes go from the archive's headers into
//! ext4 inodes without ever existing on the host.

mod archive;
mod arguments;
mod bars;
mod build;
mod content;
mod descriptor;
mod error;
mod facts;
mod filesystem;
mod guest_basics;
mod manifest;
mod oci_source;
mod qcow2;
mod sparse_file;
mod tree;

use std::error::Error as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let Err(error) = build::build(&arguments) else {
        return ExitCode::SUCCESS;
    };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    eprintln!("error: {text}");
    ExitCode::FAILURE
}
