//! Upstream connections between two requests, each for its name, address and protocol alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::upstream::{Connection, Key};

/// The pool.
#[derive(Default)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    connections: HashMap<Key, Vec<(Instant, Connection)>>,
    count: usize,
    sweeping: bool,
}

impl Pool {
    /// The connection of the kind that was used last.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (_, connection) = kept.connections.get_mut(key)?.pop()?;
            kept.count -= 1;
            if connection.is_free() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for a while, if there is room.
    pub(super) fn give(
        self: &Arc<Self>,
        key: Key,
        connection: Connection,
        most: usize,
        idle: Duration,
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !connection.is_free() || kept.count >= most {
            return;
        }
        kept.connections.entry(key).or_default().push((Instant::now(), connection));
        kept.count += 1;
        if !std::mem::replace(&mut kept.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(self), idle));
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).count == 0
    }

    /// Drops what has been kept for too long; `false` when nothing is left.
    fn expire(&self, idle: Duration) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.connections.retain(|_, connections| {
            connections.retain(|(since, connection)| {
                now.saturating_duration_since(*since) < idle && connection.is_free()
            });
            !connections.is_empty()
        });
        kept.count = kept.connections.values().map(Vec::len).sum();
        kept.sweeping = kept.count > 0;
        kept.sweeping
    }
}

async fn sweep(pool: std::sync::Weak<Pool>, idle: Duration) {
    loop {
        sleep(idle / 2).await;
        if !pool.upgrade().is_some_and(|pool| pool.expire(idle)) {
            return;
        }
    }
}
