//! Files with holes, as GNU tar stores them: a map of what is there, and that, packed.
//!
//! Three of its four forms are read (GNU tar's manual, "Storing Sparse Files"): the old one of type
//! `S`, and pax 0.1 and 1.0. Pax 0.0, which repeats one key, is refused.

use std::sync::Arc;

use tar::{GnuSparseHeader, Header};

use crate::archive::ReadAt;
use crate::tree::EntryProblem;

/// A file in more pieces than this is not worth its map.
const MAX_PIECES: usize = 65_536;
/// Bytes of a map in text: two numbers a piece.
const MAX_MAP: u64 = 2 * 1024 * 1024;
const BLOCK: u64 = 512;

/// A part of a file that is not a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the file.
    pub at: u64,
    /// Where it lies in the archive.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

/// What pax records say of a sparse file.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    /// Of the file with its holes.
    pub(crate) size: Option<u64>,
    /// Version 0.1: the map, numbers with commas between them.
    pub(crate) map: Option<Vec<u8>>,
}

/// Where the pieces are in the file, and how large it is.
#[derive(Debug)]
pub(crate) struct Map {
    runs: Vec<(u64, u64)>,
    pub(crate) size: u64,
}

impl Map {
    fn new(size: u64) -> Self {
        Self { runs: Vec::new(), size }
    }

    fn add(&mut self, at: u64, size: u64) -> Result<(), EntryProblem> {
        if self.runs.len() >= MAX_PIECES {
            return Err(EntryProblem::LongHeader);
        }
        self.runs.push((at, size));
        Ok(())
    }

    fn add_headers(&mut self, headers: &[GnuSparseHeader]) -> Result<(), EntryProblem> {
        for header in headers.iter().filter(|header| !header.is_empty()) {
            let bad = |_| EntryProblem::Header;
            self.add(header.offset().map_err(bad)?, header.length().map_err(bad)?)?;
        }
        Ok(())
    }

    /// The old form: four pieces in the header, 21 in each block that follows. `at` is moved past
    /// these.
    pub(crate) fn of_header<S: ReadAt + ?Sized>(
        header: &Header,
        source: &S,
        at: &mut u64,
    ) -> Result<Self, EntryProblem> {
        let gnu = header.as_gnu().ok_or(EntryProblem::Header)?;
        let mut map = Self::new(gnu.real_size().map_err(|_| EntryProblem::Header)?);
        map.add_headers(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            source.read_exact_at(block.as_mut_bytes(), *at).map_err(|_| EntryProblem::Truncated)?;
            *at += BLOCK;
            map.add_headers(block.sparse())?;
            more = block.is_extended();
            // A chain of blocks with nothing in them would not end by itself.
            if more && block.sparse().iter().all(GnuSparseHeader::is_empty) {
                return Err(EntryProblem::Header);
            }
        }
        Ok(map)
    }

    /// A pax form. The data begins at `offset` and has `stored` bytes; says also how many of these
    /// are the map.
    pub(crate) fn of_records<S: ReadAt + ?Sized>(
        records: &PaxSparse,
        source: &S,
        offset: u64,
        stored: u64,
    ) -> Result<(Self, u64), EntryProblem> {
        let mut map = Self::new(records.size.ok_or(EntryProblem::Header)?);
        match (records.major.unwrap_or(0), records.minor.unwrap_or(1), &records.map) {
            (0, 1, Some(text)) => {
                let mut numbers = text.split(|byte| *byte == b',').map(number);
                while let Some(at) = numbers.next() {
                    let size = numbers.next().flatten();
                    map.add(at.ok_or(EntryProblem::Header)?, size.ok_or(EntryProblem::Header)?)?;
                }
                Ok((map, 0))
            }
            (1, 0, None) => {
                let used = map.read_prefix(source, offset, stored)?;
                Ok((map, used))
            }
            _ => Err(EntryProblem::Sparse),
        }
    }

    /// Pax 1.0: the data begins with decimal numbers on lines of their own, filled up to a block.
    fn read_prefix<S: ReadAt + ?Sized>(
        &mut self,
        source: &S,
        offset: u64,
        stored: u64,
    ) -> Result<u64, EntryProblem> {
        let mut text = Vec::new();
        let mut lines = 0;
        let mut wanted = 1;
        while lines < wanted {
            let have = text.len() as u64;
            if have + BLOCK > stored.min(MAX_MAP) {
                return Err(EntryProblem::Header);
            }
            let mut block = [0; 512];
            source.read_exact_at(&mut block, offset + have).map_err(|_| EntryProblem::Truncated)?;
            text.extend_from_slice(&block);
            lines = text.iter().filter(|byte| **byte == b'\n').count();
            let count = text.split(|byte| *byte == b'\n').next().and_then(number);
            if lines > 0 {
                let count = count.and_then(|count| usize::try_from(count).ok());
                let count = count.filter(|count| *count <= MAX_PIECES);
                wanted = 1 + 2 * count.ok_or(EntryProblem::Header)?;
            }
        }
        let mut numbers = text.split(|byte| *byte == b'\n').skip(1).map(number);
        for _ in 0..wanted / 2 {
            let (at, size) = (numbers.next().flatten(), numbers.next().flatten());
            self.add(at.ok_or(EntryProblem::Header)?, size.ok_or(EntryProblem::Header)?)?;
        }
        Ok(text.len() as u64)
    }

    /// The pieces, whose bytes lie one after the other from `offset` on, `stored` of them.
    pub(crate) fn place(&self, offset: u64, stored: u64) -> Result<Arc<[Piece]>, EntryProblem> {
        let (mut end, mut used) = (0, 0);
        let mut pieces = Vec::with_capacity(self.runs.len());
        for (at, size) in self.runs.iter().copied() {
            let after = at.checked_add(size).filter(|after| *after <= self.size && at >= end);
            end = after.ok_or(EntryProblem::Header)?;
            if size > 0 {
                pieces.push(Piece { at, offset: offset + used, size });
            }
            used = size
                .checked_add(used)
                .filter(|used| *used <= stored)
                .ok_or(EntryProblem::Header)?;
        }
        if used != stored {
            return Err(EntryProblem::Header);
        }
        Ok(pieces.into())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
