//! A disk beside a byte array: random writes, zeros, discards, reads, flushes and reopenings, many
//! at once. `LANEBOX_TEST_EFFORT=1000` makes some millions of it.

use std::sync::Arc;
use std::time::Duration;

use blockcow::{BlockStore, Disk, FileStore, MemoryStore, OverlayOptions};
use futures::future::join_all;
use tempfile::TempDir;

use crate::store::TestStore;
use crate::support::{Random, context, first_difference, qcow2_base, read, read_all, write};

/// Of the base; it ends inside a block, and the disk is larger.
const BASE: usize = (200 << 10) + 3 * 512;
const SIZE: usize = (300 << 10) + 5 * 512;

fn effort() -> u64 {
    std::env::var("LANEBOX_TEST_EFFORT").map_or(1, |effort| effort.parse().unwrap())
}

fn options() -> OverlayOptions {
    OverlayOptions {
        size_bytes: Some(SIZE as u64),
        max_dirty_bytes: 1 << 20,
        write_back_delay: Duration::from_millis(2),
        ..OverlayOptions::default()
    }
}

/// A change of the disk, and what it makes of the bytes.
#[derive(Clone)]
struct Change {
    offset: usize,
    length: usize,
    /// Zeroed or discarded if absent.
    number: Option<u8>,
    discard: bool,
}

impl Change {
    fn random(random: &mut Random, number: u8) -> Self {
        // Small ones at any place, and now and then one over much of the disk.
        let most = if random.below(20) == 0 { SIZE / 2 } else { 24 << 10 };
        let length = 512 * (1 + random.below(most as u64 / 512) as usize);
        let offset = 512 * random.below(((SIZE - length) / 512 + 1) as u64) as usize;
        let number = (random.below(4) > 0).then_some(number);
        Self { offset, length, number, discard: random.below(2) == 0 }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.offset < other.offset + other.length && other.offset < self.offset + self.length
    }

    fn bytes(&self) -> Vec<u8> {
        // Two sectors never look alike by accident.
        let byte = |at: usize| self.number.map_or(0, |number| number ^ (at / 512) as u8);
        (self.offset..self.offset + self.length).map(byte).collect()
    }

    async fn make(&self, disk: &Disk) {
        let (offset, length) = (self.offset as u64, self.length as u64);
        let done = match (self.number, self.discard) {
            (Some(_), _) => write(disk, offset, &self.bytes()).await,
            (None, true) => disk.discard(offset, length).await,
            (None, false) => disk.write_zeroes(offset, length).await,
        };
        done.unwrap();
    }
}

/// Some changes that do not overlap.
fn changes(random: &mut Random, round: u64) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for number in 0..1 + random.below(8) {
        let change = Change::random(random, (round * 8 + number) as u8 | 1);
        if !changes.iter().any(|other| other.overlaps(&change)) {
            changes.push(change);
        }
    }
    changes
}

async fn round(disk: &Disk, model: &mut [u8], random: &mut Random, number: u64) {
    let changes = changes(random, number);
    let (flush, offset) = (random.below(4) == 0, 512 * random.below((SIZE / 512) as u64));
    let flushed = async {
        if flush {
            disk.flush().await.unwrap();
        }
    };
    // A read beside them takes whatever is there.
    let beside = read(disk, offset, 512);
    let all = join_all(changes.iter().map(|change| change.make(disk)));
    let (_, (), beside) = futures::join!(all, flushed, beside);
    beside.unwrap();
    for change in &changes {
        model[change.offset..change.offset + change.length].copy_from_slice(&change.bytes());
    }
    let offset = 512 * random.below((SIZE / 512) as u64) as usize;
    let length = (512 * (1 + random.below(100) as usize)).min(SIZE - offset);
    let found = read(disk, offset as u64, length).await.unwrap();
    let difference = first_difference(&found, &model[offset..offset + length]);
    assert_eq!(difference, None, "round {number}, from {offset}");
}

/// Runs rounds; `reopen` gives the store of the same blocks again.
async fn run(seed: u64, mut reopen: impl FnMut() -> Arc<dyn BlockStore>) {
    let mut random = Random::new(seed);
    let (base, mut model) = qcow2_base(BASE);
    model.resize(SIZE, 0);
    let open = async |store| base.with_store(store, context(), options()).await.unwrap();
    let mut disk = open(reopen()).await;
    for number in 0..60 {
        round(&disk, &mut model, &mut random, number).await;
        if random.below(15) == 0 {
            disk.close().await.unwrap();
            drop(disk);
            disk = open(reopen()).await;
            assert_eq!(first_difference(&read_all(&disk).await, &model), None, "reopened");
        }
    }
    assert_eq!(first_difference(&read_all(&disk).await, &model), None);
    disk.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_stores_of_any_block_size_that_discard_or_not() {
    for seed in 1..=3 * effort() {
        for block in [512, 4096, 65_536, 1536] {
            for discards in [true, false] {
                let store = Arc::new(TestStore::new(block, discards));
                run(seed, || Arc::clone(&store) as _).await;
            }
        }
    }
}

#[tokio::test]
async fn over_memory() {
    for seed in 1..=5 * effort() {
        let store = Arc::new(MemoryStore::new(16 << 20));
        run(seed, || Arc::clone(&store) as _).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_file() {
    let folder = TempDir::new().unwrap();
    for seed in 1..=2 * effort() {
        let path = folder.path().join(format!("{seed}"));
        run(seed, || {
            // A read of the disk before may still be ending, in which case the file is in use.
            loop {
                match FileStore::open_or_create(&path, "sha256:test") {
                    Ok(store) => return Arc::new(store),
                    Err(blockcow::FileStoreError::Locked) => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        std::fs::remove_file(path).unwrap();
    }
}
