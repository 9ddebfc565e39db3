//! How the owner of a part is told what happens in it.

use std::fmt;
use std::sync::Arc;

/// Is told of each event. Called on the data path: it must not wait.
pub struct Observer<E>(Arc<dyn Fn(E) + Send + Sync>);

impl<E> Observer<E> {
    /// An observer that calls `receive` for each event.
    pub fn new(receive: impl Fn(E) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Tells it.
    pub fn tell(&self, event: E) {
        (self.0)(event);
    }
}

impl<E> Clone for Observer<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Default for Observer<E> {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl<E> fmt::Debug for Observer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
