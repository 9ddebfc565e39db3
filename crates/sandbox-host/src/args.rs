//! The command line.

use std::path::PathBuf;

use clap::Parser;

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
}
