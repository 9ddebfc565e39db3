//! Where the blocks are.

use std::collections::BTreeMap;
use std::ops::Range;

const ENTRIES: usize = 512;
const PIECE: u64 = ENTRIES as u64;

/// Where a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Absent,
    Zeros,
    /// In this slot, with this checksum of its bytes.
    Slot {
        slot: u32,
        checksum: u32,
    },
}

/// The slot number that means zeros; slot 0 is a superblock, and means absent.
pub(super) const ZEROS: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    slot: u32,
    checksum: u32,
}

impl From<Entry> for Place {
    fn from(entry: Entry) -> Self {
        match entry.slot {
            0 => Self::Absent,
            ZEROS => Self::Zeros,
            slot => Self::Slot { slot, checksum: entry.checksum },
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct BlockMap {
    pieces: BTreeMap<u64, Box<[Entry]>>,
    data: u64,
}

impl BlockMap {
    pub(super) fn get(&self, block: u64) -> Place {
        let piece = self.pieces.get(&(block / PIECE));
        piece.map_or(Place::Absent, |piece| piece[index(block)].into())
    }

    /// What was there before.
    pub(super) fn set(&mut self, block: u64, place: Place) -> Place {
        let entry = match place {
            Place::Absent => Entry::default(),
            Place::Zeros => Entry { slot: ZEROS, checksum: 0 },
            Place::Slot { slot, checksum } => Entry { slot, checksum },
        };
        if place == Place::Absent && !self.pieces.contains_key(&(block / PIECE)) {
            return Place::Absent;
        }
        let empty = || vec![Entry::default(); ENTRIES].into_boxed_slice();
        let piece = self.pieces.entry(block / PIECE).or_insert_with(empty);
        let before = Place::from(std::mem::replace(&mut piece[index(block)], entry));
        if place == Place::Absent && piece.iter().all(|entry| entry.slot == 0) {
            self.pieces.remove(&(block / PIECE));
        }
        self.data += u64::from(matches!(place, Place::Slot { .. }));
        self.data -= u64::from(matches!(before, Place::Slot { .. }));
        before
    }

    /// Blocks that lie in slots.
    pub(super) fn data_blocks(&self) -> u64 {
        self.data
    }

    /// All blocks that are present, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Place)> {
        self.iter_from(0)
    }

    fn iter_from(&self, first: u64) -> impl Iterator<Item = (u64, Place)> {
        self.pieces
            .range(first / PIECE..)
            .flat_map(|(number, piece)| (number * PIECE..).zip(&piece[..]))
            .map(|(block, entry)| (block, Place::from(*entry)))
            .filter(move |(block, place)| *block >= first && *place != Place::Absent)
    }

    /// Runs of present blocks from `first` on, `most` blocks in all, and where to go on.
    pub(super) fn list(&self, first: u64, most: usize) -> Option<(Vec<Range<u64>>, u64)> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for (block, _) in self.iter_from(first).take(most) {
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        let next = runs.last()?.end;
        Some((runs, next))
    }
}

fn index(block: u64) -> usize {
    usize::try_from(block % PIECE).expect("less than 512")
}
