//! Whole disks as images, which others can read.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use blockcow::{
    Disk, FlattenError, FlattenOptions, ImageFormat, MemoryStore, OverlayOptions, Piece, contents,
    flatten,
};
use futures::StreamExt;
use tempfile::TempDir;

use crate::support::{Random, file, over, qcow2_base, raw_base, read_all, write};

const SIZE: usize = (3 << 20) + 3 * 512;

/// Whether `qemu-img` is happy. Skipped without it.
fn qemu_img(test: &str, arguments: &[&str], paths: &[&Path]) {
    match Command::new("qemu-img").args(arguments).args(paths).output() {
        Ok(output) => assert!(output.status.success(), "{arguments:?}: {output:?}"),
        Err(_) => println!("skipped: {test}: no qemu-img"),
    }
}

/// A disk with data in the base, in the store, discarded, and not there at all.
async fn disk() -> Arc<Disk> {
    let (base, _) = qcow2_base(1 << 20);
    let store = Arc::new(MemoryStore::new(64 << 20));
    let options = OverlayOptions { size_bytes: Some(SIZE as u64), ..OverlayOptions::default() };
    let disk = over(&base, &store, options).await;
    let mut random = Random::new(5);
    for number in 0..40u8 {
        let offset = random.below((SIZE - (64 << 10)) as u64 / 512) * 512;
        let noise: Vec<u8> = (0..9216).map(|_| random.below(256) as u8).collect();
        match number % 3 {
            0 => write(&disk, offset, &noise).await.unwrap(),
            1 => write(&disk, offset, &[number; 33 << 10]).await.unwrap(),
            _ => disk.discard(offset, 20 << 10).await.unwrap(),
        }
    }
    write(&disk, SIZE as u64 - 512, &[9; 512]).await.unwrap();
    Arc::new(disk)
}

#[tokio::test]
async fn every_cluster_size_compressed_and_not() {
    let folder = TempDir::new().unwrap();
    let disk = disk().await;
    let content = read_all(&disk).await;
    let raw = folder.path().join("raw");
    std::fs::write(&raw, &content).unwrap();
    for cluster_bytes in [4096, 32 << 10, 64 << 10, 2 << 20] {
        for compress in [true, false] {
            let options = FlattenOptions { cluster_bytes, compress };
            let path = folder.path().join("image");
            let mut seen = 0;
            let output = File::create(&path).unwrap();
            flatten(Arc::clone(&disk), output, &options, |progress| {
                assert!(progress.position >= seen && progress.size == SIZE as u64);
                seen = progress.position;
            })
            .await
            .unwrap();
            assert_eq!(seen, SIZE as u64);
            let test = "every_cluster_size_compressed_and_not";
            qemu_img(test, &["check", "-q", "-f", "qcow2"], &[&path]);
            let compare = ["compare", "-q", "-f", "raw", "-F", "qcow2"];
            qemu_img(test, &compare, &[&raw, &path]);
            let again = Disk::open(File::open(&path).unwrap(), ImageFormat::Qcow2).unwrap();
            assert!(read_all(&again).await == content, "{options:?}");
        }
    }
}

#[tokio::test]
async fn only_what_is_there_is_visited() {
    let base = raw_base(&[1; 4096]);
    let store = Arc::new(MemoryStore::new(1 << 20));
    let options = OverlayOptions { size_bytes: Some(1 << 40), ..OverlayOptions::default() };
    let disk = over(&base, &store, options).await;
    for place in [1u64 << 30, 1 << 35, (1 << 40) - 4096] {
        write(&disk, place, &[2; 512]).await.unwrap();
    }
    let image = file();
    let mut read = 0;
    let output = image.try_clone().unwrap();
    flatten(Arc::new(disk), output, &FlattenOptions::default(), |progress| read = progress.read)
        .await
        .unwrap();
    assert_eq!(read, 4 * (64 << 10));
    let length = image.metadata().unwrap().len();
    assert!(length < 1 << 20, "{length}");
    assert_eq!(Disk::open(image, ImageFormat::Qcow2).unwrap().size_bytes(), 1 << 40);
}

#[tokio::test]
async fn the_contents_are_the_disk_from_end_to_end() {
    let disk = disk().await;
    let expected = read_all(&disk).await;
    for piece in [512, 7000, 64 << 10, 4 << 20] {
        let mut found = Vec::new();
        let mut pieces = std::pin::pin!(contents(Arc::clone(&disk), piece));
        while let Some(next) = pieces.next().await {
            match next.unwrap() {
                Piece::Zeros(count) => found.resize(found.len() + count as usize, 0),
                Piece::Data(bytes) => {
                    assert!((1..=piece).contains(&bytes.len()));
                    found.extend(bytes);
                }
            }
        }
        assert!(found == expected, "pieces of {piece}");
    }
}

#[tokio::test]
async fn holes_of_a_raw_image_are_not_read() {
    let file = file();
    file.set_len(1 << 36).unwrap();
    for at in [1u64 << 20, 1 << 35] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[5; 512], at).unwrap();
    }
    let disk = Arc::new(Disk::open(file, ImageFormat::Raw).unwrap());
    let (mut zeros, mut data) = (0, 0);
    let mut pieces = std::pin::pin!(contents(disk, 64 << 10));
    while let Some(next) = pieces.next().await {
        match next.unwrap() {
            Piece::Zeros(count) => zeros += count,
            Piece::Data(bytes) => data += bytes.len() as u64,
        }
    }
    assert_eq!(zeros + data, 1 << 36);
    assert!((1024..1 << 20).contains(&data), "{data}");
}

#[tokio::test]
async fn given_up_it_leaves_no_image() {
    let disk = disk().await;
    let image = file();
    {
        let output = image.try_clone().unwrap();
        let options = FlattenOptions::default();
        let work = std::pin::pin!(flatten(disk, output, &options, |_| {}));
        assert!(futures::poll!(work).is_pending());
    }
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert!(Disk::open(image, ImageFormat::Qcow2).is_err());
}

#[tokio::test]
async fn a_target_that_cannot_be_written_and_wrong_cluster_sizes() {
    let disk = disk().await;
    let read_only = File::open("/dev/null").unwrap();
    let failed = flatten(Arc::clone(&disk), read_only, &FlattenOptions::default(), |_| {}).await;
    assert!(matches!(failed, Err(FlattenError::Write(_))), "{failed:?}");
    for cluster_bytes in [0, 512, 5000, 4 << 20] {
        let options = FlattenOptions { cluster_bytes, compress: false };
        let failed = flatten(Arc::clone(&disk), file(), &options, |_| {}).await;
        assert!(matches!(failed, Err(FlattenError::ClusterSize(_))), "{failed:?}");
    }
}
