//! Which slots of the file are in use.

use std::ops::Range;

/// Most slots that a file can have: the last number means something else.
const MOST: u32 = u32::MAX - 1;

#[derive(Debug, Default)]
pub(super) struct Slots {
    /// A bit for each slot below `end`.
    used: Vec<u64>,
    end: u32,
    /// Free slots below `end`.
    free: u32,
    /// No slot below this one is free.
    first_free: u32,
}

impl Slots {
    /// All slots from here on are free.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    fn is_used(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.used.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Marks a slot as used; false if it was already.
    pub(super) fn take(&mut self, slot: u32) -> bool {
        if self.is_used(slot) || slot >= MOST {
            return false;
        }
        let (word, bit) = place(slot);
        if slot >= self.end {
            self.free += slot - self.end;
            self.end = slot + 1;
            self.used.resize(self.used.len().max(word + 1), 0);
        } else {
            self.free -= 1;
        }
        self.used[word] |= bit;
        true
    }

    pub(super) fn release(&mut self, slots: Range<u32>) {
        for slot in slots {
            let (word, bit) = place(slot);
            debug_assert!(self.is_used(slot), "slot {slot} is free already");
            self.used[word] &= !bit;
            self.free += 1;
            self.first_free = self.first_free.min(slot);
        }
    }

    /// Runs of slots, `count` in all, taken from the front of the file on. Nothing, if there
    /// are not as many below `limit`.
    pub(super) fn allocate(&mut self, count: u32, limit: u32) -> Option<Vec<Range<u32>>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        let mut left = count;
        let mut slot = self.first_free;
        while left > 0 {
            if slot >= limit.min(MOST) {
                runs.into_iter().for_each(|run| self.release(run));
                return None;
            }
            if slot.is_multiple_of(64) && self.used.get(place(slot).0) == Some(&u64::MAX) {
                slot = slot.saturating_add(64);
                continue;
            }
            if self.take(slot) {
                left -= 1;
                match runs.last_mut() {
                    Some(run) if run.end == slot => run.end += 1,
                    _ => runs.push(slot..slot + 1),
                }
            }
            slot += 1;
        }
        if count > 0 {
            self.first_free = slot;
        }
        Some(runs)
    }

    /// Slots that lie side by side.
    pub(super) fn allocate_run(&mut self, count: u32) -> Option<Range<u32>> {
        let mut start = self.first_free;
        let mut slot = start;
        while slot - start < count && slot < self.end {
            if self.is_used(slot) {
                start = slot + 1;
            }
            slot += 1;
        }
        let run = start..start.checked_add(count).filter(|end| *end <= MOST)?;
        for slot in run.clone() {
            self.take(slot);
        }
        Some(run)
    }

    /// Forgets the free slots at the end.
    pub(super) fn trim(&mut self) {
        while self.end > 0 && !self.is_used(self.end - 1) {
            self.end -= 1;
            self.free -= 1;
        }
        self.first_free = self.first_free.min(self.end);
    }

    /// Runs of free slots below the end.
    pub(super) fn free_runs(&self) -> Vec<Range<u32>> {
        let mut runs: Vec<Range<u32>> = Vec::new();
        for slot in (self.first_free..self.end).filter(|slot| !self.is_used(*slot)) {
            match runs.last_mut() {
                Some(run) if run.end == slot => run.end += 1,
                _ => runs.push(slot..slot + 1),
            }
        }
        runs
    }
}

/// Which word, and the bit in it.
fn place(slot: u32) -> (usize, u64) {
    ((slot / 64) as usize, 1 << (slot % 64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "one run of slots")]

    use super::*;

    #[test]
    fn slots_come_from_the_front_and_runs_from_where_they_fit() {
        let mut slots = Slots::default();
        assert_eq!(slots.allocate(10, u32::MAX), Some(vec![0..10]));
        slots.release(2..3);
        slots.release(5..8);
        assert_eq!(slots.free(), 4);
        assert_eq!(slots.free_runs(), [2..3, 5..8]);
        assert_eq!(slots.allocate_run(2), Some(5..7));
        assert_eq!(slots.allocate_run(2), Some(10..12));
        assert_eq!(slots.allocate(4, 12), None, "there are two below 12");
        assert_eq!(slots.allocate(4, u32::MAX), Some(vec![2..3, 7..8, 12..14]));
        assert_eq!(slots.free(), 0);
        slots.release(10..14);
        slots.trim();
        assert_eq!((slots.end(), slots.free()), (10, 0));
        assert!(slots.take(100) && !slots.take(100));
        assert_eq!((slots.end(), slots.free()), (101, 90));
        assert_eq!(slots.allocate_run(95), Some(101..196));
    }
}
