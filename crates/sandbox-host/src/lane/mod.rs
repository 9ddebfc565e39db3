//! The life of the one VM. One task, the actor, owns it and moves it forward; everybody else sends
//! commands to it and reads the journal.
//!
//! ```text
//! idle ──Boot──► booting ──► running ──Shutdown──► closing ──► exited
//!   │               └── failure, cancel, Shutdown ───────────────►│
//!   └── Shutdown ────────────────────────────────────────────────►│
//!                               running ── the engine ends ──────►│
//! ```
//! States only move forward. When a state is reached that has no VM, the engine's process, its
//! sockets and its files are gone. Whatever happens is written into the [`Journal`], which any
//! number of watchers read at their own pace.

mod actor;
mod boot;
mod end;
mod ending;
mod handle;
mod journal;
mod machine;
mod streams;

use std::future::Future;
use std::pin::Pin;

use engine::probe::{EngineKind, Finding};
use engine::{Exit, StartError, Usage, VmSpec};
use tokio::net::UnixStream;

pub(crate) use boot::{failure as boot_failure, unix_nanos};
pub use end::{EndReason, Ended};
pub use handle::{Booted, FilePermit, Lane, Measured, RunPermit, WaitPermit, WatchPermit};
pub use journal::{Event, Journal, Observation, ProcessCounted, State, Status, Watcher};
pub use machine::RealEngine;

/// A future of a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What starts machines. The real one is [`RealEngine`]; tests put their own between the lane and
/// the guest.
pub trait Engine: Send + Sync + 'static {
    /// Looks at what this host can run. Must not block the caller's thread.
    fn probe(&self) -> Pending<'_, Vec<Finding>>;

    /// Starts a machine. Dropping the future leaves nothing behind.
    fn start(
        &self,
        kind: EngineKind,
        spec: VmSpec,
    ) -> Pending<'_, Result<Box<dyn Machine>, StartError>>;
}

/// A machine that runs. Dropping it ends it and frees everything.
pub trait Machine: Send {
    /// The host's end of the control port. Called once.
    fn take_control(&mut self) -> UnixStream;

    /// The host's end of the console. Called once.
    fn take_console(&mut self) -> UnixStream;

    /// One line for people: the engine, its version and what confines it.
    fn detail(&self) -> String;

    /// What the engine uses of the host, beside what this process does for it.
    fn usage(&self) -> Usage;

    /// What the user should know although the machine runs.
    fn warnings(&self) -> Vec<String>;

    /// Waits for the end. Can be called again, and dropped at any time.
    fn wait(&mut self) -> Pending<'_, Exit>;

    /// Ends the machine at once; `wait` tells when it is gone.
    fn kill(&self);
}
