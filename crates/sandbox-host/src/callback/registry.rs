//! Streams that are attached, by the names that Boot takes them by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stream::CallbackStream;
use crate::error::Error;
use crate::request::RequestError;

/// The streams of one kind of one lane.
#[derive(Debug)]
pub struct Registry<L>(Mutex<Streams<L>>);

#[derive(Debug)]
struct Streams<L> {
    attached: HashMap<String, Arc<L>>,
    /// Boot has taken what it names: what comes later would never be used.
    closed: bool,
}

impl<L> Default for Registry<L> {
    fn default() -> Self {
        Self(Mutex::new(Streams { attached: HashMap::new(), closed: false }))
    }
}

impl<L: CallbackStream> Registry<L> {
    /// Keeps a stream until Boot takes it.
    ///
    /// # Errors
    /// [`Error`] when there is no use or no room for it, or another one of this name.
    pub fn attach(&self, id: &str, link: Arc<L>) -> Result<(), Error> {
        let mut streams = self.streams();
        streams.attached.retain(|_, link| !link.ended().is_cancelled());
        if streams.closed {
            return Err(Error::Sequence(L::TOO_LATE));
        }
        if streams.attached.contains_key(id) {
            let reason = "another stream is attached under it";
            return Err(RequestError::new("attach.id", id, reason).into());
        }
        if streams.attached.len() >= L::MOST {
            let limit = u32::try_from(L::MOST).unwrap_or(u32::MAX);
            return Err(Error::Limit { what: "streams of this kind attached", limit });
        }
        streams.attached.insert(id.to_owned(), link);
        Ok(())
    }

    /// The stream of this name, if it is there and not taken.
    pub fn take(&self, id: &str) -> Option<Arc<L>> {
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

    fn streams(&self) -> MutexGuard<'_, Streams<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
