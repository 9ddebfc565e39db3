//! What a flush promises.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blockcow::{OverlayOptions, StoreError, WriteError};
use futures::FutureExt;
use futures::future::join_all;

use crate::store::{Fault, TestStore};
use crate::support::{Random, content, over, raw_base, read, read_all, write};

const SIZE: usize = 256 << 10;

fn options() -> OverlayOptions {
    OverlayOptions { max_dirty_bytes: 1 << 20, ..OverlayOptions::default() }
}

#[tokio::test]
async fn after_a_power_failure_every_block_is_as_flushed_or_newer() {
    for seed in 1..30 {
        let mut random = Random::new(seed);
        let base = raw_base(&vec![0; SIZE]);
        let store = Arc::new(TestStore::new(4096, seed % 2 == 0));
        let disk = over(&base, &store, options()).await;
        // What each block may be: as of the last flush, or any of what came after.
        let mut possible = vec![vec![0u8]; SIZE / 4096];
        for number in 1..80u8 {
            let start = random.below(64);
            let end = (start + 1 + random.below(6)).min(64);
            let length = (end - start) as usize * 4096;
            let zeros = random.below(5) == 0;
            if zeros {
                disk.discard(start * 4096, length as u64).await.unwrap();
            } else {
                write(&disk, start * 4096, &vec![number; length]).await.unwrap();
            }
            let byte = if zeros { 0 } else { number };
            (start..end).for_each(|block| possible[block as usize].push(byte));
            match random.below(6) {
                0 => {
                    disk.flush().await.unwrap();
                    possible.iter_mut().for_each(|all| drop(all.drain(..all.len() - 1)));
                }
                1 => tokio::task::yield_now().await,
                _ => {}
            }
        }
        drop(disk);
        store.fail_power();
        let disk = over(&base, &store, options()).await;
        let bytes = read_all(&disk).await;
        for (block, (bytes, possible)) in bytes.chunks(4096).zip(&possible).enumerate() {
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "block {block} is torn");
            assert!(possible.contains(&bytes[0]), "block {block}: {} of {possible:?}", bytes[0]);
        }
    }
}

#[tokio::test]
async fn a_flush_of_nothing_costs_nothing_and_many_at_once_are_few() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    disk.flush().await.unwrap();
    assert_eq!(store.flushes.load(Ordering::Relaxed), 0);
    write(&disk, 0, &[1; 4096]).await.unwrap();
    let flushes = join_all((0..50).map(|_| disk.flush())).await;
    assert!(flushes.iter().all(Result::is_ok));
    assert_eq!(store.flushes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_flush_ends_although_its_blocks_are_written_again_and_again() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = Arc::new(over(&base, &store, options()).await);
    write(&disk, 0, &[1; 8192]).await.unwrap();
    let rewriting = tokio::spawn({
        let disk = Arc::clone(&disk);
        async move {
            loop {
                write(&disk, 0, &[2; 8192]).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..20 {
        disk.flush().await.unwrap();
    }
    rewriting.abort();
}

#[tokio::test]
async fn flushes_fail_until_what_was_acknowledged_has_arrived() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    write(&disk, 4096, &[1; 8192]).await.unwrap();
    store.set("write", Some(Fault::Full));
    for _ in 0..3 {
        let failed = disk.flush().await;
        assert!(matches!(failed, Err(WriteError::Store(StoreError::NoSpace))), "{failed:?}");
        assert_eq!(read(&disk, 4096, 8192).await.unwrap(), [1; 8192], "nothing is lost");
    }
    assert_eq!(store.flushes.load(Ordering::Relaxed), 0);
    write(&disk, 0, &[2; 512]).await.unwrap();
    store.set("write", None);
    // The one that is refused by the store's flush is no better.
    store.set("flush", Some(Fault::Reject));
    assert!(disk.flush().await.is_err());
    assert!(disk.flush().await.is_err());
    store.set("flush", None);
    disk.flush().await.unwrap();
    store.fail_power();
    let disk = over(&base, &store, options()).await;
    assert_eq!(read(&disk, 4096, 8192).await.unwrap(), [1; 8192]);
    assert_eq!(read(&disk, 0, 512).await.unwrap(), [2; 512]);
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    store.state().failing_writes = 2;
    write(&disk, 0, &[1; 4096]).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(store.state().durable.len(), 1);
}

#[tokio::test]
async fn changes_are_written_back_by_themselves() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let quick = OverlayOptions { write_back_delay: Duration::from_millis(1), ..options() };
    let disk = over(&base, &store, quick).await;
    write(&disk, 0, &[1; 4096]).await.unwrap();
    while store.state().blocks.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn more_is_written_than_memory_may_hold_and_batches_are_bounded() {
    let size = 48 << 20;
    let base = raw_base(&[0; 512]);
    let store = Arc::new(TestStore::new(4096, true));
    let options = OverlayOptions {
        size_bytes: Some(size),
        max_dirty_bytes: 16 << 20,
        ..OverlayOptions::default()
    };
    let disk = over(&base, &store, options).await;
    let piece = vec![7; 3 << 20];
    let writes = (0..16).map(|number| write(&disk, number * (3 << 20), &piece));
    assert!(join_all(writes).await.iter().all(Result::is_ok));
    disk.flush().await.unwrap();
    let state = store.state();
    assert_eq!(state.durable.len() as u64, size / 4096);
    assert!(state.largest_batch <= 4 << 20, "{}", state.largest_batch);
    assert!(state.writes <= 200, "{} batches", state.writes);
}

#[tokio::test]
async fn what_fits_is_done_by_the_first_poll() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    assert!(write(&disk, 8192, &[3; 65_536]).now_or_never().is_some_and(|done| done.is_ok()));
    let read = read(&disk, 8192, 65_536).now_or_never();
    assert_eq!(read.unwrap().unwrap(), [3; 65_536]);
}

#[tokio::test]
async fn a_dropped_write_leaves_the_disk_usable() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(65_536, true));
    let disk = over(&base, &store, options()).await;
    for offset in 0..40 {
        // Written in part, so that it has to wait for the rest of the block.
        let write = std::pin::pin!(write(&disk, offset * 512, &[1; 512]));
        let _ = futures::poll!(write);
    }
    write(&disk, 0, &[2; 100 << 10]).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(read(&disk, 0, 100 << 10).await.unwrap(), [2; 100 << 10]);
}

#[tokio::test]
async fn a_closed_disk_has_flushed_and_refuses_changes() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    write(&disk, 0, &[1; 4096]).await.unwrap();
    disk.close().await.unwrap();
    assert_eq!(store.state().durable.len(), 1);
    assert!(matches!(write(&disk, 0, &[2; 512]).await, Err(WriteError::Closed)));
    assert!(matches!(disk.discard(0, 4096).await, Err(WriteError::Closed)));
    assert_eq!(read(&disk, 0, 512).await.unwrap(), [1; 512]);
    disk.close().await.unwrap();
}

#[tokio::test]
async fn dropping_the_disk_ends_its_task_and_frees_the_store() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, options()).await;
    store.set("write", Some(Fault::Hang));
    write(&disk, 0, &[1; 4096]).await.unwrap();
    assert!(disk.flush().now_or_never().is_none());
    tokio::task::yield_now().await;
    drop(disk);
    while Arc::strong_count(&store) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
