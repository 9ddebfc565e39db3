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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::lane::{Event, Observation};

    #[tokio::test]
    async fn each_refused_call_is_told_to_the_owner_once_by_its_number() {
        let (read, mut write) = std::io::pipe().unwrap();
        for number in [101_i32, 165, 101] {
            write.write_all(&number.to_le_bytes()).unwrap();
        }
        drop(write);
        let journal = Arc::new(Journal::default());
        let mut watcher = journal.watch();
        tell(read.into(), Arc::clone(&journal)).await;
        journal.warn("the last".to_owned());
        let mut told = Vec::new();
        while told.last().is_none_or(|last: &String| last != "the last") {
            let seen = watcher.next().await.unwrap().1;
            if let Observation::Event(Event::Warning(text)) = seen {
                told.push(text);
            }
        }
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("system call 101") && told[1].contains("system call 165"));
    }
}
