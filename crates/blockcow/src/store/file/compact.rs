//! Making the file small.

use std::sync::PoisonError;

use super::block_map::Place;
use super::writer::Writer;
use super::{BLOCK, SLOT};
use crate::store::StoreError;

/// Blocks that are moved together.
const BATCH: usize = 256;

/// Rounds: moving blocks frees the places of old tables for more blocks.
const ROUNDS: usize = 4;

impl Writer {
    pub(super) fn compact(&mut self) -> Result<(), StoreError> {
        self.checkpoint()?;
        for _ in 0..ROUNDS {
            let moved = self.move_to_front()?;
            self.checkpoint()?;
            if moved == 0 {
                break;
            }
        }
        self.slots.trim();
        self.file.set_length(u64::from(self.slots.end()) * SLOT)?;
        self.punch()
    }

    /// Moves blocks that lie further back than all would reach if there were no gaps.
    fn move_to_front(&mut self) -> Result<usize, StoreError> {
        let used = self.slots.end() - self.slots.free();
        let behind: Vec<(u64, Place)> = {
            let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
            let is_behind = |place| matches!(place, Place::Slot { slot, .. } if slot >= used);
            map.iter().filter(|(_, place)| is_behind(*place)).collect()
        };
        let mut moved = 0;
        for batch in behind.chunks(BATCH) {
            let mut data = vec![0; batch.len() * BLOCK];
            for ((block, place), bytes) in batch.iter().zip(data.chunks_mut(BLOCK)) {
                let Place::Slot { slot, checksum } = *place else { continue };
                self.file.read_at_most(bytes, u64::from(slot) * SLOT)?;
                if crc32fast::hash(bytes) != checksum {
                    return Err(StoreError::Damaged { block: *block });
                }
            }
            let numbers = batch.iter().map(|(block, _)| *block);
            let blocks: Vec<_> = numbers.zip(data.chunks(BLOCK)).collect();
            match self.write_blocks(&blocks, used) {
                Ok(()) => moved += blocks.len(),
                // No room in front: the tables lie there. The next round finds it.
                Err(StoreError::NoSpace) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }
}
