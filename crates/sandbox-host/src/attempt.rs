//! Trying to break out, for tests: the process is confined as for a boot, and then tries what somebody
//! who has taken it over would. Not in release builds.

#![allow(clippy::print_stdout, reason = "it is what it is for")]

use std::process::ExitCode;
use std::sync::Arc;

use confine::{Targets, attempts};

/// What the arguments of `--attempt` name.
#[must_use]
pub fn targets(arguments: &[String]) -> Option<Targets> {
    let [folder, process, port, socket] = arguments else { return None };
    Some(Targets {
        folder: folder.into(),
        process: process.parse().ok()?,
        port: port.parse().ok()?,
        socket: socket.clone(),
    })
}

/// Tries everything on a thread of the pool, and then on the first thread: a line for each, with the
/// thread, the attempt and its outcome.
pub async fn try_all(targets: Targets) -> ExitCode {
    let targets = Arc::new(targets);
    let again = Arc::clone(&targets);
    let pool = tokio::task::spawn_blocking(move || tell("pool", &again)).await;
    tell("main", &targets);
    if pool.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(thread: &str, targets: &Targets) {
    for (name, outcome) in attempts(targets) {
        match outcome {
            Ok(_) => println!("{thread} {name} done"),
            Err(errno) => println!("{thread} {name} {errno:?}"),
        }
    }
}
