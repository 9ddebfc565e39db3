//! Crashes at every operation: whatever part of what was written since the last sync is left, in
//! whatever order and cut wherever, the store is as after one of the changes since the last flush.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{FakeDisk, Operation, apply};
use crate::store::file::block_map::Place;
use crate::store::file::io::StoreFile;
use crate::store::file::{BLOCK, FileStore, FileStoreError};
use crate::store::{BlockChunk, StoreError};

const BASE: &str = "sha256:base";
const BLOCKS: u64 = 24;
/// So small that it is full after a few dozen changes.
const JOURNAL: u64 = 8192;
/// Where a model has the size of the disk.
const SIZE: u64 = u64::MAX;

type Model = BTreeMap<u64, u8>;

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn range(&mut self) -> Range<u64> {
        let start = self.below(BLOCKS);
        start..(start + 1 + self.below(5)).min(BLOCKS)
    }
}

fn open(disk: &FakeDisk) -> Result<FileStore, FileStoreError> {
    let store = FileStore::recover(Arc::new(disk.clone()), PathBuf::new(), BASE)?;
    store.shared.writer().least_journal = JOURNAL;
    Ok(store)
}

fn new() -> (FakeDisk, FileStore) {
    let disk = FakeDisk::default();
    let file: Arc<dyn StoreFile> = Arc::new(disk.clone());
    FileStore::format(&file, BASE).unwrap();
    let store = open(&disk).unwrap();
    // Without the large journal that a new file begins with.
    store.compact().unwrap();
    (disk, store)
}

fn chunk(range: &Range<u64>, number: u8) -> BlockChunk {
    let length = (range.end - range.start) as usize * BLOCK;
    BlockChunk { start: range.start, data: Bytes::from(vec![number; length]) }
}

fn write(store: &FileStore, range: &Range<u64>, number: u8) -> Result<(), StoreError> {
    store.shared.writer().write(&[chunk(range, number)])
}

/// All that is in the store.
fn contents(store: &FileStore) -> Model {
    let runs = store.shared.map.read().unwrap().list(0, usize::MAX).map_or(Vec::new(), |all| all.0);
    let mut model = Model::new();
    for block in runs.into_iter().flatten() {
        let chunks = store.shared.read(block..block + 1).unwrap();
        let [chunk] = &chunks[..] else { panic!("{} chunks", chunks.len()) };
        assert!(chunk.data.iter().all(|byte| *byte == chunk.data[0]), "block {block} is torn");
        model.insert(block, chunk.data[0]);
    }
    model.extend(store.disk_bytes().map(|bytes| (SIZE, (bytes >> 20) as u8)));
    model
}

/// What was done, and what the store was like meanwhile.
struct History {
    log: Vec<Operation>,
    /// Contents after each change, with how many operations there had been.
    states: Vec<(usize, Model)>,
    /// States that are durable from this many operations on.
    flushed: Vec<(usize, usize)>,
}

/// Random changes and flushes.
fn history(seed: u64, steps: u64) -> History {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (disk, mut store) = new();
    disk.state().log.clear();
    let start = disk.state().bytes.clone();
    let mut model = Model::new();
    let mut states = vec![(0, model.clone())];
    let mut flushed = vec![(0, 0)];
    for step in 0..steps {
        let range = random.range();
        let number = (step % 250) as u8 + 1;
        match random.below(16) {
            0..9 => {
                write(&store, &range, number).unwrap();
                model.extend(range.map(|block| (block, number)));
            }
            9 => {
                let zeros = std::slice::from_ref(&range);
                store.shared.writer().mark(zeros, Place::Zeros).unwrap();
                model.extend(range.map(|block| (block, 0)));
            }
            10 => {
                let absent = std::slice::from_ref(&range);
                store.shared.writer().mark(absent, Place::Absent).unwrap();
                model.retain(|block, _| !range.contains(block));
            }
            11 if step % 5 == 0 => {
                store.compact().unwrap();
            }
            12 if step % 4 == 0 => {
                drop(store);
                store = open(&disk).unwrap();
            }
            13 if step % 3 == 0 => {
                store.set_disk_bytes(u64::from(number) << 20).unwrap();
                model.insert(SIZE, number);
                flushed.push((disk.state().log.len(), states.len()));
            }
            _ => {
                store.shared.writer().flush().unwrap();
                flushed.push((disk.state().log.len(), states.len() - 1));
            }
        }
        states.push((disk.state().log.len(), model.clone()));
    }
    assert_eq!(contents(&store), model);
    let mut log = vec![Operation::Write { offset: 0, bytes: start }, Operation::Sync];
    let shift = log.len();
    log.append(&mut disk.state().log);
    states.iter_mut().for_each(|(at, _)| *at += shift);
    flushed.iter_mut().for_each(|(at, _)| *at += shift);
    History { log, states, flushed }
}

/// What may be left of an operation.
fn torn(operation: &Operation, random: &mut Random) -> Option<Operation> {
    match (operation, random.below(4)) {
        (_, 0) => None,
        (Operation::Write { offset, bytes }, 1) => {
            let cut = random.below(bytes.len() as u64 + 1) as usize;
            Some(Operation::Write { offset: *offset, bytes: bytes[..cut].to_vec() })
        }
        (Operation::Write { offset, bytes }, 2) => {
            let cut = random.below(bytes.len() as u64 + 1) as usize;
            Some(Operation::Write { offset: offset + cut, bytes: bytes[cut..].to_vec() })
        }
        _ => Some(operation.clone()),
    }
}

impl History {
    /// Opens what a crash before operation `at` has left.
    fn check(&self, at: usize, synced: &[u8], unsynced: &[Operation]) {
        let mut bytes = synced.to_vec();
        unsynced.iter().for_each(|operation| apply(&mut bytes, operation));
        let disk = FakeDisk::new(bytes);
        let store = open(&disk).unwrap_or_else(|error| panic!("crash at {at}: {error}"));
        let found = contents(&store);
        let durable = self.flushed.iter().rev().find(|(from, _)| *from <= at);
        let durable = durable.map_or(0, |(_, state)| *state);
        // The change that was under way may have been done.
        let begun = self.states.iter().position(|(end, _)| *end > at);
        let last = begun.unwrap_or(self.states.len() - 1);
        let possible = &self.states[durable..=last];
        assert!(possible.iter().any(|(_, model)| *model == found), "crash at {at}: {found:?}");
        // And it goes on from there.
        write(&store, &(0..3), 251).unwrap();
        store.shared.writer().flush().unwrap();
        drop(store);
        let mut expected = found;
        expected.extend([(0, 251), (1, 251), (2, 251)]);
        assert_eq!(contents(&open(&disk).unwrap()), expected, "crash at {at}");
    }

    fn check_all(&self, random: &mut Random, variants: usize) {
        let mut synced = Vec::new();
        let mut pending: Vec<Operation> = Vec::new();
        apply(&mut synced, &self.log[0]);
        for (at, operation) in self.log.iter().enumerate().skip(2) {
            self.check(at, &synced, &pending);
            for _ in 0..variants {
                let left: Vec<_> =
                    pending.iter().filter_map(|operation| torn(operation, random)).collect();
                self.check(at, &synced, &left);
            }
            match operation {
                Operation::Sync => {
                    pending.drain(..).for_each(|operation| apply(&mut synced, &operation));
                }
                other => pending.push(other.clone()),
            }
        }
    }
}

/// How much is tried: 1, or what the environment says.
fn effort() -> u64 {
    std::env::var("LANEBOX_TEST_EFFORT").map_or(1, |effort| effort.parse().unwrap())
}

#[test]
fn a_crash_at_any_operation_leaves_what_was_flushed() {
    // 15: blocks written soon after an opening, whose superblock the crash then loses.
    for seed in (1..=3 * effort()).chain([15]) {
        println!("seed {seed}");
        let history = history(seed, 60);
        history.check_all(&mut Random(seed), 3);
    }
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    let (disk, store) = new();
    let mut model = Model::new();
    write(&store, &(0..8), 1).unwrap();
    model.extend((0..8).map(|block| (block, 1)));
    // It ends amid a block.
    let room = disk.state().bytes.len() + 10 * BLOCK + 100;
    disk.state().room = Some(room);
    let mut refused = 0;
    for number in 2..120 {
        let range = u64::from(number) % BLOCKS..(u64::from(number) % BLOCKS + 3).min(BLOCKS);
        match write(&store, &range, number) {
            Ok(()) => model.extend(range.map(|block| (block, number))),
            Err(StoreError::NoSpace) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(contents(&store), model);
        if number % 30 == 0 {
            // A flush needs no room.
            store.shared.writer().flush().unwrap();
        }
    }
    assert!(refused > 0);
    store.shared.writer().flush().unwrap();
    drop(store);
    let store = open(&disk).unwrap();
    assert_eq!(contents(&store), model);
    disk.state().room = None;
    write(&store, &(0..BLOCKS), 200).unwrap();
    assert_eq!(contents(&store).len() as u64, BLOCKS);
}

#[test]
fn a_write_that_fails_half_way_changes_nothing() {
    let (disk, store) = new();
    write(&store, &(0..8), 1).unwrap();
    store.shared.writer().flush().unwrap();
    let before = contents(&store);
    for _ in 0..20 {
        disk.state().failing_writes = 1;
        assert!(matches!(write(&store, &(0..4), 2), Err(StoreError::Io(_))));
        assert_eq!(contents(&store), before);
    }
    write(&store, &(0..8), 3).unwrap();
    store.shared.writer().flush().unwrap();
    drop(store);
    assert_eq!(contents(&open(&disk).unwrap()), (0..8).map(|block| (block, 3)).collect());
}

#[test]
fn after_a_failed_sync_nothing_is_promised_any_more() {
    let (disk, store) = new();
    write(&store, &(0..8), 1).unwrap();
    disk.state().failing_syncs = 1;
    assert!(store.shared.writer().flush().is_err());
    assert!(matches!(store.shared.writer().flush(), Err(StoreError::Broken)));
    assert!(matches!(write(&store, &(0..8), 2), Err(StoreError::Broken)));
    assert_eq!(contents(&store).len(), 8, "it can still be read");
    drop(store);
    let store = open(&disk).unwrap();
    write(&store, &(0..8), 3).unwrap();
    store.shared.writer().flush().unwrap();
}

#[test]
fn cut_and_changed_files_are_found_out() {
    let (disk, store) = new();
    for number in 1..40 {
        write(&store, &(0..BLOCKS), number).unwrap();
        store.shared.writer().flush().unwrap();
    }
    let model = contents(&store);
    drop(store);
    // So that the latest superblock is the one that counts.
    let bytes = disk.state().bytes.clone();
    for length in (0..bytes.len()).step_by(BLOCK / 2) {
        match open(&FakeDisk::new(bytes[..length].to_vec())) {
            Ok(store) => assert_eq!(contents(&store), model, "cut to {length}"),
            Err(
                FileStoreError::Truncated { .. }
                | FileStoreError::Damaged(_)
                | FileStoreError::NotAStore,
            ) => {}
            Err(error) => panic!("cut to {length}: {error}"),
        }
    }
    let mut random = Random(7);
    let mut noticed = 0;
    for _ in 0..300 {
        let mut changed = bytes.clone();
        let at = random.below(bytes.len() as u64) as usize;
        changed[at] ^= 1 << random.below(8);
        let Ok(store) = open(&FakeDisk::new(changed)) else {
            noticed += 1;
            continue;
        };
        for (block, number) in &model {
            match store.shared.read(*block..block + 1) {
                Ok(chunks) => assert!(chunks[0].data.iter().all(|byte| byte == number)),
                Err(StoreError::Damaged { .. }) => noticed += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(noticed > 0);
}

#[test]
fn compaction_makes_the_file_small() {
    let (disk, store) = new();
    let many = chunk(&(0..4000), 1);
    store.shared.writer().write(&[many]).unwrap();
    store.shared.writer().flush().unwrap();
    let few: Vec<Range<u64>> = (0..40).map(|hundred| hundred * 100..hundred * 100 + 99).collect();
    store.shared.writer().mark(&few, Place::Absent).unwrap();
    let before = contents(&store);
    let size = store.compact().unwrap();
    assert_eq!(size.blocks, 40);
    assert!(size.file_bytes < 64 * BLOCK as u64, "{size:?}");
    assert_eq!(contents(&store), before);
    drop(store);
    assert_eq!(contents(&open(&disk).unwrap()), before);
}
