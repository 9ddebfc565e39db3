//! A reader that hashes and counts what passes through it, up to a limit.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

pub(crate) struct Hashing<R> {
    inner: R,
    hash: Sha256,
    count: u64,
    limit: u64,
}

/// The error that a reader gives at its limit: another type of error than any decoder's.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
pub(crate) struct PastLimit(pub(crate) u64);

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, hash: Sha256::new(), count: 0, limit }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::finish(self.hash)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        if self.count > self.limit {
            return Err(io::Error::other(PastLimit(self.limit)));
        }
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
