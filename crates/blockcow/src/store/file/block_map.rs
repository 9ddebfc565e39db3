//! Where the blocks are.

use std::collections::BTreeMap;
use std::ops::Range;

use super::journal::Change;
use crate::limits::MAX_STORE_MAP_BYTES;

const ENTRIES: usize = 512;
/// Blocks of a piece.
pub(super) const PIECE: u64 = ENTRIES as u64;

/// Most pieces of a map.
pub(super) const MAX_PIECES: u64 = MAX_STORE_MAP_BYTES / (PIECE * size_of::<Entry>() as u64);

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

impl Entry {
    fn has_data(self) -> bool {
        self.slot != 0 && self.slot != ZEROS
    }
}

impl From<Place> for Entry {
    fn from(place: Place) -> Self {
        match place {
            Place::Absent => Self::default(),
            Place::Zeros => Self { slot: ZEROS, checksum: 0 },
            Place::Slot { slot, checksum } => Self { slot, checksum },
        }
    }
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

    /// Whether a run of blocks with this place fits beside what there is, within the limit of memory.
    pub(super) fn has_room(&self, changes: &[Change]) -> bool {
        let new = |change: &Change| match change.place {
            Place::Absent => 0,
            _ if change.count == 0 => 0,
            Place::Zeros | Place::Slot { .. } => {
                let (first, last) = pieces(&change.blocks());
                last - first + 1 - self.pieces.range(first..=last).count() as u64
            }
        };
        self.pieces.len() as u64 + changes.iter().map(new).sum::<u64>() <= MAX_PIECES
    }

    /// Does what a change says; `freed` is told of the slots that are not referred to any more.
    pub(super) fn apply(&mut self, change: &Change, mut freed: impl FnMut(u32)) {
        if change.count == 0 {
            return;
        }
        let (entry, blocks) = (Entry::from(change.place), change.blocks());
        let (first, last) = pieces(&blocks);
        let numbers: Vec<u64> = match change.place {
            // However long the run, only what is there is looked at.
            Place::Absent => self.pieces.range(first..=last).map(|(number, _)| *number).collect(),
            Place::Zeros | Place::Slot { .. } => (first..=last).collect(),
        };
        for number in numbers {
            let empty = || vec![Entry::default(); ENTRIES].into_boxed_slice();
            let piece = self.pieces.entry(number).or_insert_with(empty);
            let start = blocks.start.max(number * PIECE);
            let end = blocks.end.min((number + 1) * PIECE);
            for before in &mut piece[index(start)..=index(end - 1)] {
                let before = std::mem::replace(before, entry);
                self.data += u64::from(entry.has_data());
                self.data -= u64::from(before.has_data());
                if before.has_data() {
                    freed(before.slot);
                }
            }
            if change.place == Place::Absent && piece.iter().all(|entry| entry.slot == 0) {
                self.pieces.remove(&number);
            }
        }
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

/// The first and the last piece of a run that is not empty.
fn pieces(blocks: &Range<u64>) -> (u64, u64) {
    (blocks.start / PIECE, (blocks.end - 1) / PIECE)
}

fn index(block: u64) -> usize {
    usize::try_from(block % PIECE).expect("less than 512")
}
