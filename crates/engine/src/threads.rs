//! Where every thread begins that belongs to a machine of this process.

use std::io;
use std::thread::{Builder, JoinHandle};

use confine::Role;

/// Starts a thread that gives up what its role does not need before anything else.
pub(crate) fn spawn(
    role: Role,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(move || {
        confine::thread(role);
        run();
    })
}
