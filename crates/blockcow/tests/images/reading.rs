//! Every byte of images of every layout.

use std::fs::File;
use std::path::Path;

use blockcow::{BufferTarget, Disk, ImageFormat};

use crate::support::{Workshop, open, qemu_img, read, read_all, runtime};

/// Reads of all sizes at all alignments, many at once.
fn compare(disk: &Disk, content: &[u8], what: &str) {
    assert_eq!(disk.size_bytes(), content.len() as u64, "{what}");
    assert!(read_all(disk).unwrap() == content, "{what}: the whole disk differs");
    let mut place = 12345usize;
    let reads = (0..400).map(|number| {
        place =
            place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = 512 << (number % 9);
        let offset = (place >> 20) % (content.len() - length) / 512 * 512;
        async move {
            let bytes = read(disk, offset as u64, length).await.unwrap();
            assert!(bytes == content[offset..offset + length], "{offset}+{length} differs");
        }
    });
    runtime().block_on(futures::future::join_all(reads));
}

#[test]
fn every_cluster_size_compressed_and_not() {
    let test = "every_cluster_size_compressed_and_not";
    // Ends inside a cluster.
    let Some(workshop) = Workshop::new(test, (5 << 20) + 3 * 512) else { return };
    for cluster in ["512", "1k", "4k", "16k", "32k", "64k", "256k", "2M"] {
        for compress in [&["-c"][..], &[]] {
            for compat in ["0.10", "1.1"] {
                let options = format!("cluster_size={cluster},compat={compat}");
                let arguments = [compress, &["-o", &options]].concat();
                let disk = open(&workshop.convert("image", &arguments)).unwrap();
                compare(&disk, &workshop.content, &format!("{arguments:?}"));
            }
        }
    }
}

#[test]
fn other_options_that_do_not_change_the_content() {
    let test = "other_options_that_do_not_change_the_content";
    let Some(workshop) = Workshop::new(test, 3 << 20) else { return };
    for option in [
        "refcount_bits=1",
        "refcount_bits=64",
        "lazy_refcounts=on",
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=full",
    ] {
        let image = workshop.convert("image", &["-o", option]);
        compare(&open(&image).unwrap(), &workshop.content, option);
    }
}

#[test]
fn snapshots_and_bitmaps_are_ignored() {
    let test = "snapshots_and_bitmaps_are_ignored";
    let Some(workshop) = Workshop::new(test, 3 << 20) else { return };
    let image = workshop.convert("image", &[]);
    qemu_img(&["bitmap", "--add"], &[&image, Path::new("bitmap")]);
    qemu_img(&["snapshot", "-c", "before"], &[&image]);
    compare(&open(&image).unwrap(), &workshop.content, "with a snapshot");
}

#[test]
fn a_disk_of_holes_reads_as_zeros_without_the_file() {
    let test = "a_disk_of_holes_reads_as_zeros_without_the_file";
    let Some(workshop) = Workshop::new(test, 512) else { return };
    let image = workshop.path("holes");
    qemu_img(&["create", "-q", "-f", "qcow2"], &[&image, Path::new("1T")]);
    let disk = open(&image).unwrap();
    assert_eq!(disk.size_bytes(), 1 << 40);
    let bytes = runtime().block_on(read(&disk, (1 << 40) - (1 << 20), 1 << 20)).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn raw_images() {
    let Some(workshop) = Workshop::new("raw_images", (3 << 20) + 512) else { return };
    let disk = Disk::open(File::open(workshop.raw()).unwrap(), ImageFormat::Raw).unwrap();
    compare(&disk, &workshop.content, "raw");
}

#[test]
fn reads_outside_of_the_disk_are_refused() {
    let test = "reads_outside_of_the_disk_are_refused";
    let Some(workshop) = Workshop::new(test, 1 << 20) else { return };
    let disk = open(&workshop.convert("image", &[])).unwrap();
    runtime().block_on(async {
        for (offset, length) in [(1 << 20, 1), ((1 << 20) - 512, 513), (u64::MAX, 1), (u64::MAX, 0)]
        {
            let mut bytes = vec![0; length];
            let result = disk.read(offset, &mut BufferTarget::new(&mut bytes)).await;
            assert!(result.is_err(), "{offset}+{length}");
        }
        assert!(read(&disk, 1 << 20, 0).await.is_ok());
    });
}

#[test]
fn what_is_cached_is_served_by_the_first_poll() {
    let test = "what_is_cached_is_served_by_the_first_poll";
    let Some(workshop) = Workshop::new(test, 1 << 20) else { return };
    let disk = open(&workshop.convert("image", &["-c"])).unwrap();
    let runtime = runtime();
    let _inside = runtime.enter();
    let poll_once = || {
        let mut bytes = vec![0; 4096];
        let mut target = BufferTarget::new(&mut bytes);
        let future = std::pin::pin!(disk.read(64 << 10, &mut target));
        futures::FutureExt::now_or_never(future).is_some_and(|result| result.is_ok())
    };
    assert!(!poll_once(), "nothing is cached yet");
    runtime.block_on(read(&disk, 64 << 10, 512)).unwrap();
    assert!(poll_once());
}

#[test]
fn a_dropped_read_leaves_the_disk_usable() {
    let test = "a_dropped_read_leaves_the_disk_usable";
    let Some(workshop) = Workshop::new(test, 2 << 20) else { return };
    let disk = open(&workshop.convert("image", &["-c"])).unwrap();
    runtime().block_on(async {
        for _ in 0..100 {
            let mut bytes = vec![0; 1 << 20];
            let mut target = BufferTarget::new(&mut bytes);
            let future = std::pin::pin!(disk.read(0, &mut target));
            let _ = futures::poll!(future);
        }
        assert!(read(&disk, 0, 2 << 20).await.unwrap() == workshop.content);
    });
}
