//! PID 1 of the guest: sets the machine up as the host says and runs the lane's processes.
//!
//! ```text
//! kernel ─► early steps ─► control port ─► HTTP/2 connection ─┬─ GuestService    (guest, boot, shutdown)
//!                                                             ├─ ProcessService  (process)
//!                                                             └─ FileService     (file)
//! ```
//! The host is trusted. The workload is root in this machine and can spoil all of it, but gets no
//! easy hold of this process: the port is open once and close-on-exec, children get descriptors 0,
//! 1 and 2, memory is locked and not dumpable, and what PID 1 does after the boot waits for nothing
//! that the workload controls (a copy of it does: `sys::spawn`).
//!
//! One thread (tokio's current-thread runtime, nothing that makes others): a fork is a whole copy.
//! No panic ends it: each call is a task, and the reaper is started again. The channel is the life
//! of the machine: when the host closes it, or it breaks, the machine is reset, which ends the VM.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo
    )
)]

mod announce;
mod boot;
mod channel;
mod console;
mod error;
mod file;
mod filesystems;
#[doc(hidden)]
pub mod fuzz;
mod guest;
mod limits;
mod machine;
mod process;
mod server;
mod shutdown;
mod sys;

use std::fmt::Display;
use std::io;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::getpid;
use tokio::io::BufWriter;
use tokio::time::{sleep, timeout};

use crate::channel::{ControlPort, Counted, Written};
use crate::file::Files;
use crate::guest::Guest;
use crate::limits::{HOST_CLOSES, LAST_WORDS, PORT_WRITE};
use crate::machine::Machine;
use crate::process::children::reaper;
use crate::process::service::Processes;

/// The life of the machine; a process that is not PID 1 ends with status 2.
#[must_use]
pub fn run() -> ExitCode {
    if getpid().as_raw() != 1 {
        console::say("this program is PID 1 of a Lanebox guest and nothing else");
        return ExitCode::from(2);
    }
    // A panic has printed itself.
    if let Ok(Err(words)) = catch_unwind(live) {
        console::say(words);
        std::thread::sleep(LAST_WORDS);
    }
    // Never returns; if it did, the kernel would panic over the end of PID 1 and reset, too.
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    ExitCode::FAILURE
}

/// The life of the machine; an error is its last words.
fn live() -> Result<(), String> {
    let failed = |step: &str, error: &dyn Display| format!("step {step} failed: {error}");
    boot::early::run().map_err(|(step, failure)| failed(step, &failure))?;
    let step = "open-control-port";
    let device = channel::find(protocol::CONTROL_PORT).map_err(|error| failed(step, &error))?;
    let port = channel::open(&device).map_err(|error| failed(step, &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("start", &error))?;
    runtime.block_on(async {
        let port = ControlPort::new(port).map_err(|error| failed("start", &error))?;
        serve(port).await;
        Ok(())
    })
}

/// Serves the host until it is gone or has shut the machine down.
async fn serve(port: ControlPort) {
    let written = Written::default();
    let machine = Arc::new(Machine::new(written.clone()));
    let reaping = tokio::spawn(reap_always(Arc::clone(&machine)));
    let mut connection = tokio::spawn(server::serve(
        // A frame's header and its payload leave in one write: each write is an exit of the guest.
        BufWriter::with_capacity(PORT_WRITE, Counted::new(port, written)),
        Guest::new(Arc::clone(&machine)),
        Processes::new(Arc::clone(&machine)),
        Files::new(Arc::clone(&machine)),
    ));
    tokio::select! {
        ended = &mut connection => match ended {
            Ok(Ok(())) => console::say("the host has closed the control channel"),
            Ok(Err(error)) => console::say(format_args!("the control channel broke: {error}")),
            Err(error) => console::say(format_args!("the control channel's task ended: {error}")),
        },
        () = machine.finished.notified() => {
            // The host closes its side when it has the answer. If it does not, never mind.
            let _ = timeout(HOST_CLOSES, connection).await;
        }
    }
    reaping.abort();
}

/// Keeps the reaper going, whatever happens to it.
async fn reap_always(machine: Arc<Machine>) {
    loop {
        let again = Arc::clone(&machine);
        let ended: Result<io::Result<()>, _> =
            tokio::spawn(async move { reaper(&again.children).await }).await;
        console::say(format_args!("the reaper is started again: {ended:?}"));
        sleep(Duration::from_millis(100)).await;
    }
}
