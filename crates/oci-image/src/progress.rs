//! Who is told how far a pull has come.

/// Told of each piece of work as it begins; called from several tasks at once.
pub trait Progress: Send + Sync {
    /// A piece of work of `bytes` bytes begins.
    fn begin(&self, what: &str, bytes: u64) -> Box<dyn Step>;
}

/// One piece of work; it ends, whether done or not, when this is dropped.
pub trait Step: Send {
    /// So many bytes are done, from the beginning.
    fn at(&mut self, bytes: u64);
}

/// Nobody is told.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _bytes: u64) -> Box<dyn Step> {
        Box::new(Self)
    }
}

impl Step for Silent {
    fn at(&mut self, _bytes: u64) {}
}
