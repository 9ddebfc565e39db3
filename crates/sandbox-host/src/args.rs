//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use confine::Grant;

/// The helper process of Lanebox: one microVM, spoken to over gRPC on file descriptor 3.
///
/// It is started by the lanebox library, with a connected Unix stream socket as file descriptor 3,
/// and ends with that connection. Exit status: 0 the client left, 1 a failure, 2 the command line,
/// the environment or file descriptor 3 is not as it should be, 128+n ended by signal n.
#[derive(Debug, Parser)]
#[command(name = "sandbox-host", version)]
pub struct Args {
    /// Also serve a Unix socket at PATH, for this user only, with gRPC reflection. It can look and
    /// exec, and can neither boot nor shut down. PATH must not exist.
    #[arg(long, value_name = "PATH")]
    pub debug_socket: Option<PathBuf>,

    /// A file or directory that may be used, and how: read:PATH, engine:PATH (the engine's process
    /// reads it too), write:PATH, or create:PATH for a file that is made where it is not there. May
    /// be given again. Nothing else can be opened.
    #[arg(long = "grant", value_name = "HOW:PATH", value_parser = OsStringValueParser::new().try_map(grant))]
    pub grants: Vec<Grant>,

    /// The VM has a network: this process may use the host's.
    #[arg(long)]
    pub network: bool,

    /// A control group (cgroup v2) to join, which the caller has made and removes.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// Whether this process confines itself.
    #[arg(long, value_enum, default_value_t = Confinement::On)]
    pub confinement: Confinement,

    /// Try to break out, print what came of it, and end. Debug builds have it, for their tests.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true, num_args = 4, value_names = ["FOLDER", "PROCESS", "PORT", "SOCKET"])]
    pub attempt: Option<Vec<String>>,
}

/// Whether the process confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Confinement {
    /// By all that the host has for it.
    On,
    /// Not at all; whoever takes the process over can do what its user can.
    Off,
}

fn grant(given: OsString) -> Result<Grant, confine::GrantError> {
    Grant::parse(&given)
}
