//! What is refused when it is opened, and under which name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use blockcow::limits::{MAX_DISK_BYTES, MAX_L1_ENTRIES};
use blockcow::{Disk, ImageFormat, OpenError};

use crate::support::{Workshop, open, patch, qemu_img};

#[test]
fn images_that_need_more_than_themselves() {
    let test = "images_that_need_more_than_themselves";
    let Some(workshop) = Workshop::new(test, 1 << 20) else { return };
    let base = workshop.convert("base", &[]);
    let overlay = workshop.path("overlay");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"], &[&base, &overlay]);
    assert!(matches!(open(&overlay), Err(OpenError::BackingFile)));
    // A name in an old header, where the file does not even exist.
    std::fs::remove_file(&base).unwrap();
    assert!(matches!(open(&overlay), Err(OpenError::BackingFile)));

    let outside = format!("data_file={}", workshop.path("data").display());
    let external = workshop.convert("external", &["-o", &outside]);
    assert!(matches!(open(&external), Err(OpenError::ExternalDataFile)));
}

#[test]
fn images_that_would_be_read_wrongly() {
    let test = "images_that_would_be_read_wrongly";
    let Some(workshop) = Workshop::new(test, 1 << 20) else { return };
    let zstd = workshop.convert("zstd", &["-c", "-o", "compression_type=zstd"]);
    assert!(matches!(open(&zstd), Err(OpenError::Compression(1))));
    let extended = workshop.convert("extended", &["-o", "extended_l2=on"]);
    assert!(matches!(open(&extended), Err(OpenError::ExtendedL2)));
    let luks = workshop.path("luks");
    qemu_img(
        &[
            "create",
            "-q",
            "--object",
            "secret,id=s,data=123456",
            "-f",
            "qcow2",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
        ],
        &[&luks, Path::new("1M")],
    );
    assert!(matches!(open(&luks), Err(OpenError::Encrypted(2))));
}

#[test]
fn header_fields_out_of_their_range() {
    let Some(workshop) = Workshop::new("header_fields_out_of_their_range", 1 << 20) else { return };
    let refusal = |at: u64, bytes: &[u8]| {
        let image = workshop.convert("image", &[]);
        patch(&image, at, bytes);
        open(&image).map(|_| ()).unwrap_err()
    };
    assert!(matches!(refusal(0, b"X"), OpenError::NotQcow2));
    assert!(matches!(refusal(4, &4u32.to_be_bytes()), OpenError::Version(4)));
    assert!(matches!(refusal(4, &1u32.to_be_bytes()), OpenError::Version(1)));
    for bits in [0u32, 8, 22, 63, u32::MAX] {
        let error = refusal(20, &bits.to_be_bytes());
        assert!(matches!(error, OpenError::Header { field: "cluster_bits", .. }), "{error}");
    }
    assert!(matches!(refusal(24, &0u64.to_be_bytes()), OpenError::Empty));
    assert!(matches!(refusal(24, &513u64.to_be_bytes()), OpenError::Unaligned(513)));
    let above = (MAX_DISK_BYTES + 512).to_be_bytes();
    assert!(matches!(refusal(24, &above), OpenError::TooLarge { .. }));
    assert!(matches!(refusal(24, &(u64::MAX - 511).to_be_bytes()), OpenError::TooLarge { .. }));
    let l1 = refusal(24, &(2u64 << 30).to_be_bytes());
    assert!(matches!(l1, OpenError::Header { field: "l1_size", .. }), "{l1}");
    let entries = (MAX_L1_ENTRIES + 1).to_be_bytes();
    assert!(matches!(refusal(36, &entries), OpenError::TableTooLarge { table: "L1", .. }));
    assert!(matches!(refusal(36, &MAX_L1_ENTRIES.to_be_bytes()), OpenError::Truncated { .. }));
    for offset in [0u64, 1, 512, 0x8000] {
        let error = refusal(40, &offset.to_be_bytes());
        assert!(matches!(error, OpenError::Header { field: "l1_table_offset", .. }), "{error}");
    }
    let far = (u64::MAX << 16).to_be_bytes();
    assert!(matches!(refusal(40, &far), OpenError::Truncated { what: "the L1 table", .. }));
    assert!(matches!(refusal(72, &1u64.to_be_bytes()), OpenError::Dirty));
    assert!(matches!(refusal(72, &2u64.to_be_bytes()), OpenError::Corrupt));
    assert!(matches!(refusal(72, &(1u64 << 40).to_be_bytes()), OpenError::UnknownFeatures(_)));
    assert!(matches!(refusal(100, &96u32.to_be_bytes()), OpenError::Header { .. }));
}

#[test]
fn a_table_of_feature_names_that_ends_within_an_entry() {
    let test = "a_table_of_feature_names_that_ends_within_an_entry";
    let Some(workshop) = Workshop::new(test, 1 << 20) else { return };
    let image = workshop.convert("image", &[]);
    // The first extension after a header of 112 bytes: the kind, then the length.
    patch(&image, 112, &0x6803_f857u32.to_be_bytes());
    patch(&image, 116, &49u32.to_be_bytes());
    assert!(matches!(open(&image), Err(OpenError::Header { value: 49, .. })));
}

#[test]
fn truncated_at_any_place() {
    let test = "truncated_at_any_place";
    let Some(workshop) = Workshop::new(test, 2 << 20) else { return };
    for options in [&["-c"][..], &[], &["-c", "-o", "cluster_size=512"], &["-o", "cluster_size=2M"]]
    {
        let image = workshop.convert("image", options);
        assert!(open(&image).is_ok());
        let whole = image.metadata().unwrap().len();
        let file = File::options().write(true).open(&image).unwrap();
        let lengths = (0..120).chain((120..whole - 511).step_by(3331)).chain([whole - 512]);
        for length in lengths.collect::<BTreeSet<_>>().into_iter().rev() {
            file.set_len(length).unwrap();
            let error = open(&image).map(|_| ()).unwrap_err();
            let expected = match error {
                OpenError::NotQcow2 => length < 4,
                OpenError::Truncated { .. } => length >= 4,
                _ => false,
            };
            assert!(expected, "{options:?} cut at {length} of {whole}: {error:?}");
        }
    }
}

#[test]
fn files_that_are_no_images() {
    let Some(workshop) = Workshop::new("files_that_are_no_images", 1 << 20) else { return };
    assert!(matches!(open(&workshop.raw()), Err(OpenError::NotQcow2)));
    assert!(matches!(open(Path::new("/dev/null")), Err(OpenError::NotAFile)));
    assert!(matches!(open(Path::new("/")), Err(OpenError::NotAFile)));
    let raw = |bytes: usize| {
        let path = workshop.path("odd");
        File::create(&path).unwrap().write_all(&vec![1; bytes]).unwrap();
        Disk::open(File::open(&path).unwrap(), ImageFormat::Raw).map(|disk| disk.size_bytes())
    };
    assert!(matches!(raw(0), Err(OpenError::Empty)));
    assert!(matches!(raw(511), Err(OpenError::Unaligned(511))));
    assert!(matches!(raw(1025), Err(OpenError::Unaligned(1025))));
    assert_eq!(raw(512).unwrap(), 512);
}
