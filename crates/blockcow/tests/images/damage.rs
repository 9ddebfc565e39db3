//! Images with wrong bytes in them: an error or other content, never a panic or an endless wait.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::OnceLock;

use blockcow::{Disk, ImageFormat, ReadError};
use proptest::prelude::*;

use crate::support::{Workshop, read_all};

/// Small images, as bytes.
fn images() -> &'static [Vec<u8>] {
    static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let Some(workshop) = Workshop::new("damage", 700 << 10) else { return Vec::new() };
        [
            &["-c"][..],
            &[],
            &["-c", "-o", "cluster_size=512"],
            &["-c", "-o", "cluster_size=4k,compat=0.10"],
            &["-c", "-o", "cluster_size=2M"],
        ]
        .iter()
        .map(|options| std::fs::read(workshop.convert("image", options)).unwrap())
        .collect()
    })
}

/// Where a byte is changed: mostly in the header and the tables, which qemu-img puts in front.
fn place() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..128usize, 2 => 0..1024usize, 3 => 0..(300usize << 10), 2 => 0..(1usize << 20)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_are_an_error_or_other_content(
        which in 0..5usize,
        changes in prop::collection::vec((place(), any::<u8>()), 1..8),
    ) {
        let Some(image) = images().get(which) else { return Ok(()) };
        let mut image = image.clone();
        for (at, value) in changes {
            let length = image.len();
            image[at % length] = value;
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&image).unwrap();
        file.rewind().unwrap();
        check(file)?;
    }
}

/// Opens and, when that succeeds and the disk is not made huge, reads everything.
fn check(file: File) -> Result<(), TestCaseError> {
    let Ok(disk) = Disk::open(file, ImageFormat::Qcow2) else { return Ok(()) };
    if disk.size_bytes() > 64 << 20 {
        return Ok(());
    }
    match read_all(&disk) {
        Ok(bytes) => prop_assert_eq!(bytes.len() as u64, disk.size_bytes()),
        // What is checked when it is opened must be all that the library trips over.
        Err(ReadError::Reader) => prop_assert!(false, "the library panicked"),
        Err(_) => {}
    }
    Ok(())
}
