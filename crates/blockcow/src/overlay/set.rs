//! Which blocks of a disk are in the store.
//!
//! One bit for a block, in pieces of 4,096 blocks that exist where there is one: 32 KiB for each
//! GiB that is dense in blocks of 4 KiB, and at most about 560 bytes for a block that is alone.

use std::collections::BTreeMap;
use std::ops::Range;

const WORDS: usize = 64;
const PIECE: u64 = WORDS as u64 * 64;

#[derive(Debug, Default)]
pub(crate) struct BlockSet {
    pieces: BTreeMap<u64, Box<[u64; WORDS]>>,
}

/// Which word of a piece, and the bit in it.
fn place(block: u64) -> (usize, u64) {
    let within = block % PIECE;
    let word = usize::try_from(within / 64).expect("one of the words");
    (word, 1 << (within % 64))
}

impl BlockSet {
    pub(crate) fn contains(&self, block: u64) -> bool {
        let (word, bit) = place(block);
        self.pieces.get(&(block / PIECE)).is_some_and(|piece| piece[word] & bit != 0)
    }

    /// Whether it is new.
    pub(crate) fn insert(&mut self, block: u64) -> bool {
        let (word, bit) = place(block);
        let piece = self.pieces.entry(block / PIECE).or_insert_with(|| Box::new([0; WORDS]));
        let new = piece[word] & bit == 0;
        piece[word] |= bit;
        new
    }

    pub(crate) fn remove(&mut self, block: u64) {
        let (word, bit) = place(block);
        let Some(piece) = self.pieces.get_mut(&(block / PIECE)) else { return };
        piece[word] &= !bit;
        if piece.iter().all(|word| *word == 0) {
            self.pieces.remove(&(block / PIECE));
        }
    }

    /// The first block of this range that is in the set.
    pub(crate) fn first_in(&self, range: Range<u64>) -> Option<u64> {
        if range.is_empty() {
            return None;
        }
        let pieces = self.pieces.range(range.start / PIECE..=(range.end - 1) / PIECE);
        for (number, piece) in pieces {
            let start = (number * PIECE).max(range.start);
            let end = ((number + 1) * PIECE).min(range.end);
            let mut block = start;
            while block < end {
                let (word, bit) = place(block);
                // The bits from this block on.
                let rest = piece[word] & !(bit - 1);
                let next = block - block % 64 + u64::from(rest.trailing_zeros());
                if rest != 0 {
                    return (next < end).then_some(next);
                }
                block = next;
            }
        }
        None
    }

    /// How many blocks are in the set.
    pub(crate) fn count(&self) -> u64 {
        let words = self.pieces.values().flat_map(|piece| piece.iter());
        words.map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(
            changes in prop::collection::vec((0u64..20_000, any::<bool>()), 0..300),
            ranges in prop::collection::vec((0u64..20_000, 0u64..20_000), 20),
        ) {
            let (mut set, mut model) = (BlockSet::default(), BTreeSet::new());
            for (block, present) in changes {
                if present {
                    prop_assert_eq!(set.insert(block), model.insert(block));
                } else {
                    set.remove(block);
                    model.remove(&block);
                }
                prop_assert_eq!(set.contains(block), present);
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            for (start, length) in ranges {
                let range = start..start + length;
                let expected = model.range(range.clone()).next().copied();
                prop_assert_eq!(set.first_in(range), expected);
            }
        }
    }
}
