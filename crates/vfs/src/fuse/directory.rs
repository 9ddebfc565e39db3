//! The entries of a directory, as one READDIR or READDIRPLUS reply takes them.

use super::abi;
use super::reply::Encoder;
use crate::{Entry, Kind};

/// Collects entries until the guest's buffer is full.
pub struct DirectorySink {
    out: Encoder,
    limit: usize,
    plus: bool,
}

impl DirectorySink {
    pub(super) fn new(limit: usize, plus: bool) -> Self {
        Self { out: Encoder::with_capacity(limit.min(65_536)), limit, plus }
    }

    /// Whether the guest wants each entry looked up on the way. What is given for one counts as
    /// a lookup, except for `.` and `..`.
    #[must_use]
    pub fn wants_entries(&self) -> bool {
        self.plus
    }

    /// Whether an entry with a name of this length has room: to be asked before it is looked up,
    /// since a lookup that is not delivered would never be forgotten.
    #[must_use]
    pub fn fits(&self, name: &[u8]) -> bool {
        let fixed = abi::DIRENT_SIZE + if self.plus { abi::ENTRY_OUT_SIZE } else { 0 };
        self.out.len() + (fixed + name.len()).next_multiple_of(8) <= self.limit
    }

    /// Adds an entry; `false`, and nothing happens, when it does not fit. `next` is the offset
    /// that a later request continues from. Without `entry` the guest looks the name up itself.
    #[must_use]
    pub fn push(
        &mut self,
        name: &[u8],
        ino: u64,
        kind: Option<Kind>,
        next: u64,
        entry: Option<&Entry>,
    ) -> bool {
        if !self.fits(name) {
            return false;
        }
        if self.plus {
            match entry {
                Some(entry) => self.out.entry(entry),
                None => self.out.raw(&[0; abi::ENTRY_OUT_SIZE]),
            };
        }
        let length = u32::try_from(name.len()).expect("names are at most 255 bytes");
        self.out.u64(ino).u64(next).u32(length).u32(kind.map_or(0, Kind::dirent_type));
        self.out.raw(name).pad();
        true
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out.finish()
    }
}
