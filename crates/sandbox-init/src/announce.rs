//! `AnnounceChanges`: one helper process at a time, because each of its calls can wait for the host.

use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use protocol::guest::v1::AnnounceChangesRequest;
use rustix::fs::Timespec;
use tokio::time::timeout;

use crate::error::Error;
use crate::limits::{CHANGES_DEADLINE, MAX_CHANGES};
use crate::machine::Machine;
use crate::process::children::Kind;
use crate::sys::spawn::spawn;

/// Checks a request but for its tag; the mark as the kernel takes it.
pub(crate) fn check(request: &AnnounceChangesRequest) -> Result<Timespec, Error> {
    if request.paths.len() > MAX_CHANGES {
        let text = format!("paths are {}, {MAX_CHANGES} at most", request.paths.len());
        return Err(Error::InvalidRequest(text));
    }
    let mark = Timespec { tv_sec: request.mark_seconds, tv_nsec: request.mark_nanos.into() };
    if mark.tv_nsec > 999_999_999 {
        return Err(Error::InvalidRequest("mark_nanos is more than a second".into()));
    }
    Ok(mark)
}

/// Returns when inotify has told of everything, or the time is over.
pub(crate) async fn run(machine: &Machine, request: AnnounceChangesRequest) -> Result<(), Error> {
    let mark = check(&request)?;
    let filesystem = machine
        .filesystems
        .find(&request.tag)
        .ok_or_else(|| Error::InvalidRequest(format!("tag {:?} is not mounted", request.tag)))?;
    let paths: Vec<Vec<u8>> = request.paths.iter().map(|path| path.to_vec()).collect();
    let waiting = async {
        let turn =
            Arc::clone(&machine.announcing).acquire_owned().await.map_err(|_| Error::Defect)?;
        let pid = spawn(None, || {
            filesystem.announce(&paths, mark);
            0
        })
        .map_err(|errno| Error::System { what: "Starting a helper", errno })?;
        let exit = machine.children.register(pid, Kind::Helper);
        // A helper that is stuck keeps its turn: there is never a second one.
        let (done, ended) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let _ = exit.await;
            drop(turn);
            let _ = done.send(());
        });
        Ok((pid, ended))
    };
    let late = || Error::AnnounceTimeout;
    let (pid, ended) = timeout(CHANGES_DEADLINE, waiting).await.map_err(|_| late())??;
    if timeout(CHANGES_DEADLINE, ended).await.is_err() {
        let _ = kill(pid, Signal::SIGKILL);
        return Err(late());
    }
    Ok(())
}
