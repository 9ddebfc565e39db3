//! Where every thread of this process that belongs to a machine begins.

use std::io;
use std::sync::OnceLock;
use std::thread::{Builder, JoinHandle};

/// What a thread does for a machine, and so what it needs of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreadRole {
    /// Sets a machine up, waits for its end, and frees it. The threads of its processors and its
    /// devices are born from it.
    Monitor,
    /// Runs one processor of the guest, and answers what that asks of simple devices.
    Processor,
    /// Serves a virtio device, or reads files for one.
    Device,
    /// Looks after an engine that is a process of its own.
    Keeper,
}

static HOOK: OnceLock<fn(ThreadRole)> = OnceLock::new();

/// Has `hook` run by every thread of a machine that begins from now on, before anything else of
/// the thread: to give up there what its role does not need. It is set once in a process.
///
/// # Errors
/// The hook, when there is one already.
pub fn on_thread_start(hook: fn(ThreadRole)) -> Result<(), fn(ThreadRole)> {
    HOOK.set(hook)
}

pub(crate) fn begin(role: ThreadRole) {
    if let Some(hook) = HOOK.get() {
        hook(role);
    }
}

/// For threads that the `virtio` crate starts.
pub(crate) fn begin_device() {
    begin(ThreadRole::Device);
}

/// Starts a thread in a role.
pub(crate) fn spawn(
    role: ThreadRole,
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(move || {
        begin(role);
        run();
    })
}
