//! Streams that are attached, by the names that Boot takes them by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::link::Link;
use crate::error::Error;
use crate::limits::MAX_MOUNTS;
use crate::request::RequestError;

/// The streams of one lane.
#[derive(Debug, Default)]
pub struct Registry(Mutex<Streams>);

#[derive(Debug, Default)]
struct Streams {
    attached: HashMap<String, Arc<Link>>,
    /// Boot has taken what it names: what comes later would never be used.
    closed: bool,
}

impl Registry {
    /// Keeps a stream until Boot takes it.
    ///
    /// # Errors
    /// [`Error`] when there is no use or no room for it, or another one of this name.
    pub fn attach(&self, id: &str, link: Arc<Link>) -> Result<(), Error> {
        let mut streams = self.streams();
        streams.attached.retain(|_, link| !link.ended().is_cancelled());
        if streams.closed {
            return Err(Error::Sequence("Filesystems are attached before Boot, not after it"));
        }
        if streams.attached.contains_key(id) {
            let reason = "another ServeFilesystem is attached under it";
            return Err(RequestError::new("attach.id", id, reason).into());
        }
        if streams.attached.len() >= MAX_MOUNTS {
            let limit = u32::try_from(MAX_MOUNTS).unwrap_or(u32::MAX);
            return Err(Error::Limit { what: "filesystems attached", limit });
        }
        streams.attached.insert(id.to_owned(), link);
        Ok(())
    }

    /// The stream of this name, if it is there and not taken.
    pub(super) fn take(&self, id: &str) -> Option<Arc<Link>> {
        let link = self.streams().attached.remove(id)?;
        (!link.ended().is_cancelled()).then_some(link)
    }

    /// Nothing is attached from here on.
    pub fn close(&self) {
        self.streams().closed = true;
    }

    /// The VM has ended: so do the streams that nobody took.
    pub fn end(&self) {
        let left = {
            let mut streams = self.streams();
            streams.closed = true;
            std::mem::take(&mut streams.attached)
        };
        left.values().for_each(|link| link.end(None));
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
