//! System calls that were refused to this process, told to its owner: each number once.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::lane::Journal;

/// Different numbers that are told.
const TOLD: usize = 32;

/// Tells, for as long as the process lives.
pub(crate) async fn tell(pipe: OwnedFd, journal: Arc<Journal>) {
    let mut pipe = match Receiver::from_owned_fd(pipe) {
        Ok(pipe) => pipe,
        Err(error) => return tracing::error!(%error, "refused system calls will not be told"),
    };
    let mut told = BTreeSet::new();
    while let Ok(number) = pipe.read_i32_le().await {
        if told.len() < TOLD && told.insert(number) {
            journal.warn(format!(
                "The helper was refused the system call {number}, which it has no business with; \
                 please report it"
            ));
        }
    }
}
