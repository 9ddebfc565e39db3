//! The file of a block store as the fuzzer likes it, with its checksums made right, so that it gets
//! behind them: opened or refused, and, when it is opened, read, changed and opened again.
#![no_main]

use std::io::{Seek, Write};
use std::sync::OnceLock;

use blockcow::{BlockChunk, BlockStore, FileStore, StoreContext, StoreError};
use bytes::Bytes;
use futures::StreamExt;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

const BASE: &str = "b";
const SLOT: usize = 4096;
/// Where a superblock has its parts (blockcow/src/store/file/superblock.rs).
const CHECKSUM: usize = 12;
const SNAPSHOT: usize = 24;
const SNAPSHOT_CHECKSUM: usize = 40;
const JOURNAL: usize = 44;
const SEED: usize = 52;
const BASE_AT: usize = 72;
/// Blocks that are read: the fuzzer should spend its time elsewhere.
const MOST: usize = 64;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().max_blocking_threads(1).build().unwrap())
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?) as usize)
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// Over all but the four bytes at `hole`.
fn checksum(bytes: &[u8], hole: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..hole]);
    hasher.update(&bytes[hole + 4..]);
    hasher.finalize()
}

/// The first records of the journal, chained.
fn chain_records(file: &mut [u8]) -> Option<()> {
    let (mut at, mut chain) = (word(file, JOURNAL)?.checked_mul(SLOT)?, word(file, SEED)? as u32);
    for _ in 0..4 {
        let length = 24 + word(file, at + 4)?.checked_mul(16)?;
        let record = file.get_mut(at..at.checked_add(length)?)?;
        put(record, 0, u32::from_le_bytes(*b"LBJ1"));
        put(record, 16, chain);
        chain = checksum(record, 20);
        put(record, 20, chain);
        at += length;
    }
    Some(())
}

/// A file of superblocks, as much of them as the input has, and slots.
fn file(input: &[u8]) -> Vec<u8> {
    let head = input.len().min(BASE_AT);
    let mut file = vec![0; 2 * SLOT];
    file[..head].copy_from_slice(&input[..head]);
    file.extend(&input[head..]);
    file.resize(file.len().next_multiple_of(SLOT), 0);
    file[..8].copy_from_slice(b"LANEBLK\n");
    put(&mut file, 8, 1);
    put(&mut file, BASE_AT, 1);
    file[BASE_AT + 8] = b'b';
    chain_records(&mut file);
    let entries = word(&file, 32).and_then(|entries| entries.checked_mul(16));
    let start = word(&file, SNAPSHOT).and_then(|slot| slot.checked_mul(SLOT));
    let snapshot =
        start.zip(entries).and_then(|(at, length)| file.get(at..at.checked_add(length)?));
    let sum = snapshot.map_or(0, crc32fast::hash);
    put(&mut file, SNAPSHOT_CHECKSUM, sum);
    let sum = checksum(&file[..SLOT], CHECKSUM);
    put(&mut file, CHECKSUM, sum);
    file
}

/// Whether there was room for a block.
async fn work(store: &FileStore, context: &StoreContext) -> bool {
    let mut blocks = Vec::new();
    let mut listing = store.list(context);
    while let Some(batch) = listing.next().await {
        blocks.extend(batch.unwrap().into_iter().flat_map(|run| run.take(MOST)).take(MOST));
    }
    drop(listing);
    for block in blocks.into_iter().take(MOST) {
        let _ = store.read(block..block + 1, context).await;
    }
    let data = Bytes::from_static(&[7; SLOT]);
    match store.write(vec![BlockChunk { start: 3, data: data.clone() }], context).await {
        // The map is as large as it may be.
        Err(StoreError::NoSpace) => return false,
        written => written.unwrap(),
    }
    store.flush(context).await.unwrap();
    assert_eq!(store.read(3..4, context).await.unwrap()[0].data, data);
    true
}

fuzz_target!(|input: &[u8]| {
    let mut named = tempfile::NamedTempFile::new().unwrap();
    named.write_all(&file(input)).unwrap();
    named.rewind().unwrap();
    let Ok(store) = FileStore::open(named.path(), BASE) else { return };
    let context = StoreContext { base: BASE.into(), generation: 1 };
    if !runtime().block_on(work(&store, &context)) {
        return;
    }
    drop(store);
    // What it has written itself it must take.
    let store = FileStore::open(named.path(), BASE).unwrap();
    let blocks = runtime().block_on(store.read(3..4, &context)).unwrap();
    assert_eq!(blocks[0].data[..], [7; SLOT]);
});
