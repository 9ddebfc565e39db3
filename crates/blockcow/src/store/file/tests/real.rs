//! Real files: locks, names, creation.

#![allow(clippy::single_range_in_vec_init, reason = "one run of blocks")]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use futures::FutureExt;
use tempfile::TempDir;

use crate::limits::MAX_STORE_MAP_BYTES;
use crate::store::{BlockChunk, FileStore, FileStoreError, StoreError};
use crate::{BlockStore, conformance};

const BASE: &str = "sha256:base";

#[tokio::test]
async fn it_is_a_store() {
    let folder = TempDir::new().unwrap();
    let mut number = 0;
    conformance::check(|| {
        number += 1;
        let path = folder.path().join(format!("store-{number}"));
        let store: Arc<dyn BlockStore> = Arc::new(FileStore::open_or_create(&path, BASE).unwrap());
        async move { store }
    })
    .await;
}

#[test]
fn a_second_opener_is_refused_by_whatever_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let store = FileStore::open_or_create(&path, BASE).unwrap();
    fs::hard_link(&path, folder.path().join("hard")).unwrap();
    symlink(&path, folder.path().join("soft")).unwrap();
    for name in ["store", "hard", "soft"] {
        let again = FileStore::open_or_create(&folder.path().join(name), BASE);
        assert!(matches!(again, Err(FileStoreError::Locked)), "{name}: {again:?}");
    }
    drop(store);
    for name in ["store", "hard", "soft"] {
        assert!(FileStore::open(&folder.path().join(name), BASE).is_ok(), "{name}");
    }
}

#[test]
fn another_base_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    FileStore::open_or_create(&path, BASE).unwrap();
    let other = FileStore::open(&path, "sha256:other");
    let Err(FileStoreError::WrongBase { expected, found }) = other else { panic!("{other:?}") };
    assert_eq!((&*expected, &*found), ("sha256:other", BASE));
    for base in ["", &"x".repeat(1025)] {
        let refused = FileStore::open(&path, base);
        assert!(matches!(refused, Err(FileStoreError::Base(_))), "{refused:?}");
    }
}

#[test]
fn what_is_no_store_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("file");
    for content in [&b""[..], b"some text", &[0; 9000]] {
        fs::write(&path, content).unwrap();
        let opened = FileStore::open_or_create(&path, BASE);
        assert!(matches!(opened, Err(FileStoreError::NotAStore)), "{opened:?}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let opened = FileStore::open_or_create(folder.path(), BASE);
    assert!(matches!(opened, Err(FileStoreError::NotAFile)), "{opened:?}");
    let missing = FileStore::open(&folder.path().join("missing"), BASE);
    assert!(matches!(missing, Err(FileStoreError::Io(_))), "{missing:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("missing").join("store");
    assert!(matches!(FileStore::open_or_create(&nowhere, BASE), Err(FileStoreError::Io(_))));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let created = FileStore::open_or_create(&folder.path().join("store"), BASE);
    // For root nothing is forbidden.
    if File::create(folder.path().join("probe")).is_err() {
        assert!(matches!(created, Err(FileStoreError::Io(_))), "{created:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_size_of_the_disk_outlives_the_store() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let store = FileStore::open_or_create(&path, BASE).unwrap();
    assert_eq!(store.disk_bytes(), None);
    store.set_disk_bytes(3 << 20).unwrap();
    store.compact().unwrap();
    drop(store);
    let store = FileStore::open(&path, BASE).unwrap();
    assert_eq!(store.disk_bytes(), Some(3 << 20));
}

#[tokio::test]
async fn a_change_that_is_given_up_before_its_turn_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let store = FileStore::open_or_create(&folder.path().join("store"), BASE).unwrap();
    let context = conformance::context();
    let chunk = |byte| BlockChunk { start: 5, data: bytes::Bytes::from(vec![byte; 4096]) };
    {
        let _busy = store.shared.writer();
        assert!(store.write(vec![chunk(1)], &context).now_or_never().is_none());
    }
    store.write(vec![chunk(2)], &context).await.unwrap();
    while Arc::strong_count(&store.shared) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.read(5..6, &context).await.unwrap(), [chunk(2)]);
}

/// So many that the map would take more than its limit.
#[tokio::test]
async fn a_map_that_grows_too_large_is_a_full_store() {
    let folder = TempDir::new().unwrap();
    let store = FileStore::open_or_create(&folder.path().join("store"), BASE).unwrap();
    let context = conformance::context();
    let most = MAX_STORE_MAP_BYTES / 8;
    let refused = store.write_zeroes(vec![0..most + 1], &context).await;
    assert!(matches!(refused, Err(StoreError::NoSpace)), "{refused:?}");
    store.write_zeroes(vec![7..9], &context).await.unwrap();
    store.discard(vec![0..1 << 34], &context).await.unwrap();
    assert!(store.read(7..9, &context).await.unwrap().is_empty());
}

#[tokio::test]
async fn creating_leaves_one_file_and_blocks_outlive_the_store() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store");
    let context = conformance::context();
    let data = bytes::Bytes::from(vec![7; 4096]);
    {
        let store = FileStore::open_or_create(&path, BASE).unwrap();
        store.write(vec![BlockChunk { start: 5, data: data.clone() }], &context).await.unwrap();
        store.flush(&context).await.unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let store = FileStore::open_or_create(&path, BASE).unwrap();
    assert_eq!(store.read(5..6, &context).await.unwrap(), [BlockChunk { start: 5, data }]);
    assert_eq!(store.size().unwrap().blocks, 1);
}
