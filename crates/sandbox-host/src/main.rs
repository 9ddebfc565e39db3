//! Starts the helper: confines the process, then serves its one client. See the library.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use nix::sys::signal::Signal;
use sandbox_host::args::Args;
#[cfg(debug_assertions)]
use sandbox_host::attempt;
use sandbox_host::confine::Begun;
use sandbox_host::debug::DebugSocket;
use sandbox_host::error::chain;
use sandbox_host::lane::RealEngine;
use sandbox_host::limits::BLOCKING_THREADS;
use sandbox_host::server::{self, Finish};
use sandbox_host::signals::Signals;
use sandbox_host::{confine, logging};

const FAILURE: u8 = 1;
const USAGE: u8 = 2;
const SIGNALLED: u8 = 128;

fn main() -> ExitCode {
    let args = Args::parse();
    let begun = match confine::begin(&args) {
        Ok(begun) => begun,
        Err(error) => return fail(&error, USAGE),
    };
    let log = match logging::begin() {
        Ok(log) => log,
        Err(error) => return fail(&error, USAGE),
    };
    let code = serve(begun, args);
    drop(log);
    code
}

fn serve(begun: Begun, args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .on_thread_start(|| ::confine::thread(::confine::Role::Blocking))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, FAILURE),
    };
    let code = runtime.block_on(async {
        #[cfg(debug_assertions)]
        if let Some(targets) = args.attempt.as_deref().and_then(attempt::targets) {
            return attempt::try_all(targets).await;
        }
        match run(begun, args.debug_socket).await {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(signal)) => {
                ExitCode::from(SIGNALLED.saturating_add(u8::try_from(signal as i32).unwrap_or(0)))
            }
            Err((error, code)) => fail(&*error, code),
        }
    });
    // A thread that hashes a file gives up soon, and need not be waited for.
    runtime.shutdown_background();
    code
}

type Failure = (Box<dyn Error>, u8);

/// Serves; returns the signal that ended it, if one did.
async fn run(begun: Begun, debug: Option<PathBuf>) -> Result<Option<Signal>, Failure> {
    let Begun { connection, granted } = begun;
    let failed = |error: Box<dyn Error>| (error, FAILURE);
    let mut signals = Signals::catch().map_err(|error| failed(error.into()))?;
    let debug = debug.map(|path| DebugSocket::bind(&path)).transpose();
    let debug = debug.map_err(|error| (error.into(), USAGE))?;
    let connection =
        tokio::net::UnixStream::from_std(connection).map_err(|error| failed(error.into()))?;
    let mut caught = None;
    let told = async { caught = Some(signals.first().await) };
    let finish =
        server::run(connection, debug, Arc::new(RealEngine), Arc::new(granted), told).await;
    match finish.map_err(|error| failed(error.into()))? {
        Finish::ClientLeft => Ok(None),
        Finish::Told => Ok(caught),
    }
}

/// Prints the chain of an error once.
fn fail(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("sandbox-host: {}", chain(error));
    ExitCode::from(code)
}
