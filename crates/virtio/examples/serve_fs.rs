//! Serves one host directory to one front end on a socket path, as `virtiofsd` does; for measuring
//! one beside the other.
//!
//! `serve_fs DIRECTORY SOCKET`

use std::error::Error;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use vfs::fuse::{Limits, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};
use vfs::{CacheTimes, Observer};

/// What `virtiofsd -o cache=auto` has the guest believe.
const CACHE: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, socket] = &arguments[..] else {
        return Err("usage: serve_fs DIRECTORY SOCKET".into());
    };
    let mut options = HostDirOptions::new(directory, Access::ReadWrite);
    options.cache = CacheTimes::of(CACHE);
    let directory = HostDir::new(options, &Observer::log())?;
    let server = Arc::new(Server::new(directory, Limits::default(), Observer::log()));
    let listener = UnixListener::bind(socket)?;
    let (stream, _) = listener.accept()?;
    let served = virtio::serve_filesystem(stream, server, 1)?;
    while !served.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(served.stop()?)
}
