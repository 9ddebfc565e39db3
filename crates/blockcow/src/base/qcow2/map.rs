//! Where the clusters of one part of a disk lie.

use std::ops::Range;

use crate::base::Place;
use crate::base::read::to_usize;
use crate::cache::Weigh;

/// A run of clusters that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    /// Where it ends in the disk; it begins where the one before it ends.
    end: u64,
    /// Place of its first byte.
    place: Place,
}

/// The extents of a part of the disk, in order and without gaps.
#[derive(Debug)]
pub(crate) struct Map {
    start: u64,
    extents: Box<[Extent]>,
}

impl Map {
    /// Collects the places from `range.start` on until the range's end.
    pub(super) fn build<E>(
        range: Range<u64>,
        mut place_at: impl FnMut(u64, u64) -> Result<(Place, u64), E>,
    ) -> Result<Self, E> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut position = range.start;
        while position < range.end {
            let (place, run) = place_at(position, range.end - position)?;
            let start = position;
            // A run of nothing would never end; at least one byte is as the first.
            position = position.saturating_add(run.max(1)).min(range.end);
            match extents.last_mut() {
                // Only these have no offset that would have to fit too.
                Some(last) if last.place == place && !matches!(place, Place::File(_)) => {
                    last.end = position;
                }
                _ => extents.push(Extent { end: position, place }),
            }
            debug_assert!(start < position);
        }
        Ok(Self { start: range.start, extents: extents.into_boxed_slice() })
    }

    /// The place of a byte of this part, and for how many bytes from there on it holds.
    pub(crate) fn place(&self, position: u64) -> (Place, u64) {
        let index = self.extents.partition_point(|extent| extent.end <= position);
        let extent = self.extents[index];
        let start = index.checked_sub(1).map_or(self.start, |before| self.extents[before].end);
        let place = match extent.place {
            Place::File(offset) => Place::File(offset + (position - start)),
            place => place,
        };
        (place, extent.end - position)
    }

    /// The places in a range of this part, each with its length.
    pub(crate) fn extents(&self, range: Range<u64>) -> Vec<(Place, usize)> {
        let mut extents = Vec::new();
        let mut position = range.start;
        while position < range.end {
            let (place, run) = self.place(position);
            let run = run.min(range.end - position);
            extents.push((place, to_usize(run)));
            position += run;
        }
        extents
    }
}

impl Weigh for Map {
    fn weight(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_neighbours_become_one_and_positions_inside_are_found() {
        let places = [
            (Place::Zeros, 10),
            (Place::Zeros, 10),
            (Place::File(1000), 10),
            (Place::File(5000), 10),
            (Place::Compressed, 10),
        ];
        let mut next = places.into_iter();
        let map =
            Map::build::<()>(100..150, |_, _| Ok(next.next().expect("as many as asked"))).unwrap();
        assert_eq!(map.extents.len(), 4);
        assert_eq!(map.place(100), (Place::Zeros, 20));
        assert_eq!(map.place(119), (Place::Zeros, 1));
        assert_eq!(map.place(125), (Place::File(1005), 5));
        assert_eq!(map.place(130), (Place::File(5000), 10));
        assert_eq!(map.place(149), (Place::Compressed, 1));
        assert_eq!(
            map.extents(118..131),
            [(Place::Zeros, 2), (Place::File(1000), 10), (Place::File(5000), 1)]
        );
    }

    #[test]
    fn an_answer_of_no_bytes_does_not_hang() {
        let map = Map::build::<()>(0..3, |_, _| Ok((Place::Zeros, 0))).unwrap();
        assert_eq!(map.place(0), (Place::Zeros, 3));
    }
}
