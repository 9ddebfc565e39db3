//! Options that are refused, sizes, and what discarding frees.

use std::sync::Arc;
use std::time::Duration;

use blockcow::{MemoryStore, OverlayError, OverlayOptions, WriteError};

use crate::store::TestStore;
use crate::support::{content, context, over, qcow2_base, raw_base, read, write};

const SIZE: usize = 256 << 10;

#[tokio::test]
async fn options_that_are_refused_are_named() {
    let base = raw_base(&content(SIZE));
    let default = OverlayOptions::default;
    let refuse = async |block, options| {
        let store = Arc::new(TestStore::new(block, true));
        let opened = base.with_store(store, context(), options).await;
        opened.map(drop).unwrap_err().to_string()
    };
    for block in [0, 100, 4097, 8 << 20] {
        assert!(refuse(block, default()).await.contains("block size"));
    }
    for size in [SIZE as u64 - 512, SIZE as u64 + 1, 1 << 60] {
        let options = OverlayOptions { size_bytes: Some(size), ..default() };
        assert!(refuse(4096, options).await.starts_with("size_bytes"));
    }
    let options = OverlayOptions { max_dirty_bytes: (1 << 20) - 1, ..default() };
    assert!(refuse(4096, options).await.starts_with("max_dirty_bytes"));
    let options = OverlayOptions { max_dirty_bytes: 7 << 20, ..default() };
    assert!(refuse(4 << 20, options).await.starts_with("max_dirty_bytes"));
    for max_write_backs in [0, 65] {
        let options = OverlayOptions { max_write_backs, ..default() };
        assert!(refuse(4096, options).await.starts_with("max_write_backs"));
    }
    let options = OverlayOptions { store_deadline: Duration::ZERO, ..default() };
    assert!(refuse(4096, options).await.starts_with("store_deadline"));
}

#[tokio::test]
async fn a_disk_without_a_store_and_one_over_a_writable_one() {
    let base = raw_base(&content(SIZE));
    assert!(!base.is_writable());
    assert!(matches!(write(&base, 0, &[1; 512]).await, Err(WriteError::ReadOnly)));
    assert!(matches!(base.discard(0, 512).await, Err(WriteError::ReadOnly)));
    base.flush().await.unwrap();
    let store = Arc::new(MemoryStore::new(1 << 20));
    let disk = over(&base, &store, OverlayOptions::default()).await;
    assert!(disk.is_writable());
    let again = disk.with_store(store, context(), OverlayOptions::default()).await;
    assert!(matches!(again, Err(OverlayError::Base)));
}

#[tokio::test]
async fn ranges_outside_and_odd_ones() {
    let base = raw_base(&content(SIZE));
    let store = Arc::new(TestStore::new(4096, true));
    let disk = over(&base, &store, OverlayOptions::default()).await;
    for (offset, length) in [(SIZE as u64, 512), (SIZE as u64 - 512, 1024), (u64::MAX - 511, 512)] {
        let refused = write(&disk, offset, &vec![0; length]).await;
        assert!(matches!(refused, Err(WriteError::OutOfRange { .. })), "{refused:?}");
        assert!(disk.discard(offset, length as u64).await.is_err());
        assert!(read(&disk, offset, length).await.is_err());
    }
    for (offset, length) in [(1, 512), (0, 511), (512, 1)] {
        let refused = write(&disk, offset, &vec![0; length]).await;
        assert!(matches!(refused, Err(WriteError::Unaligned { .. })), "{refused:?}");
        assert!(disk.write_zeroes(offset, length as u64).await.is_err());
    }
    write(&disk, SIZE as u64, &[]).await.unwrap();
    disk.flush().await.unwrap();
    assert!(store.state().blocks.is_empty());
}

#[tokio::test]
async fn a_disk_larger_than_its_base() {
    let base = raw_base(&content(SIZE + 512));
    let store = Arc::new(TestStore::new(4096, true));
    let size = 64 << 30;
    let options = OverlayOptions { size_bytes: Some(size), ..OverlayOptions::default() };
    let disk = over(&base, &store, options.clone()).await;
    assert_eq!(disk.size_bytes(), size);
    let border = read(&disk, SIZE as u64, 8192).await.unwrap();
    assert_eq!(border[..512], content(SIZE + 512)[SIZE..]);
    assert!(border[512..].iter().all(|byte| *byte == 0));
    write(&disk, size - 512, &[5; 512]).await.unwrap();
    write(&disk, SIZE as u64 + 512, &[6; 512]).await.unwrap();
    disk.close().await.unwrap();
    let disk = over(&base, &store, options).await;
    assert_eq!(read(&disk, size - 1024, 1024).await.unwrap(), [[0; 512], [5; 512]].concat());
    let border = read(&disk, SIZE as u64, 1024).await.unwrap();
    assert_eq!(border, [&content(SIZE + 512)[SIZE..], &[6; 512]].concat());
}

#[tokio::test]
async fn discarding_frees_blocks_over_holes_and_zeroes_those_over_data() {
    // Every third block is a hole.
    let (base, content) = qcow2_base(SIZE);
    let store = Arc::new(TestStore::new(4096, true));
    let options = OverlayOptions { size_bytes: Some(2 * SIZE as u64), ..OverlayOptions::default() };
    let disk = over(&base, &store, options).await;
    write(&disk, 0, &vec![1; 2 * SIZE]).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(store.state().blocks.len(), 128);
    disk.discard(0, 2 * SIZE as u64).await.unwrap();
    assert_eq!(read(&disk, 0, 2 * SIZE).await.unwrap(), vec![0; 2 * SIZE]);
    disk.flush().await.unwrap();
    let data = content.chunks(4096).filter(|block| block[0] != 0).count();
    assert_eq!(store.state().blocks.len(), data);
    assert!(store.state().blocks.values().all(|bytes| bytes.iter().all(|byte| *byte == 0)));
    assert_eq!(read(&disk, 0, 2 * SIZE).await.unwrap(), vec![0; 2 * SIZE]);
}

#[tokio::test]
async fn discarding_a_large_empty_disk_takes_no_memory() {
    let base = raw_base(&[0; 512]);
    let store = Arc::new(TestStore::new(4096, true));
    let size = 8 << 30;
    let options = OverlayOptions {
        size_bytes: Some(size),
        max_dirty_bytes: 1 << 20,
        ..OverlayOptions::default()
    };
    let disk = over(&base, &store, options).await;
    write(&disk, 4 << 30, &[1; 4096]).await.unwrap();
    disk.discard(0, size).await.unwrap();
    disk.flush().await.unwrap();
    // The first block lies over the base.
    assert_eq!(store.state().blocks.keys().copied().collect::<Vec<_>>(), [0]);
}
