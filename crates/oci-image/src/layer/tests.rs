use super::*;
use crate::digest::Digest;
use crate::manifest::LayerDescriptor;
use crate::progress::Silent;
use crate::testing::layers::packed;

fn unpacked(
    blob: &[u8],
    plain: &[u8],
    compression: Compression,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let cache = BlobCache::open(folder.path()).unwrap();
    let mut file = cache.scratch().unwrap();
    file.write_all(blob).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let descriptor =
        LayerDescriptor { digest: Digest::of(blob), size: blob.len() as u64, compression };
    let layer = Layer { descriptor, diff_id: Digest::of(plain), blob: file };
    let (mut archive, length) = unpack(layer, &cache, limits, limits.image_bytes, &mut Silent)?;
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut archive).unwrap();
    archive.read_to_end(&mut bytes).unwrap();
    assert_eq!(length, bytes.len() as u64);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "it has no name");
    Ok(bytes)
}

fn plain() -> Vec<u8> {
    (0..60_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect()
}

#[test]
fn every_packing_is_unpacked() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let blob = packed(&plain(), compression);
        let bytes = unpacked(&blob, &plain(), compression, &Limits::default()).unwrap();
        assert!(bytes == plain(), "{compression:?}");
    }
}

#[test]
fn several_members_and_frames_are_one_archive() {
    let twice = [plain(), plain()].concat();
    let gzip = [packed(&plain(), Compression::Gzip), packed(&plain(), Compression::Gzip)].concat();
    assert!(unpacked(&gzip, &twice, Compression::Gzip, &Limits::default()).unwrap() == twice);
    let frame = packed(&plain(), Compression::Zstd);
    // RFC 8878, 3.1.2: magic number, length, and what nobody reads.
    let skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc".to_vec();
    let zstd = [skipped.clone(), frame.clone(), skipped.clone(), frame, skipped].concat();
    assert!(unpacked(&zstd, &twice, Compression::Zstd, &Limits::default()).unwrap() == twice);
}

#[test]
fn what_is_cut_off_or_goes_on_is_refused() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut blob = packed(&plain(), compression);
        let whole = blob.len();
        blob.extend_from_slice(b"garbage after the end");
        let outcome = unpacked(&blob, &plain(), compression, &Limits::default());
        assert!(matches!(outcome, Err(Error::Decompress { .. })), "{compression:?} {outcome:?}");
        blob.truncate(whole - 9);
        let outcome = unpacked(&blob, &plain(), compression, &Limits::default());
        assert!(matches!(outcome, Err(Error::Decompress { .. })), "{compression:?}");
    }
    let half = b"\x50\x2a\x4d\x18\xff\x00\x00\x00abc";
    assert!(unpacked(half, b"", Compression::Zstd, &Limits::default()).is_err());
}

#[test]
fn another_diff_id_is_refused() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let blob = packed(&plain(), compression);
        let outcome = unpacked(&blob, b"other", compression, &Limits::default());
        assert!(
            matches!(outcome, Err(Error::Digest { found, .. }) if found == Digest::of(&plain()))
        );
    }
}

#[test]
fn bombs_are_stopped_at_the_limit() {
    let zeros = vec![0; 5_000_000];
    let limits = Limits { layer_bytes: 1_000_000, ..Limits::default() };
    let whole = Limits { image_bytes: 1_000_000, ..Limits::default() };
    for compression in [Compression::Gzip, Compression::Zstd] {
        let blob = packed(&zeros, compression);
        assert!(blob.len() < 1_000_000);
        for (limits, what) in [(&limits, "The layer"), (&whole, "What the image's layers hold")] {
            let error = unpacked(&blob, &zeros, compression, limits).unwrap_err();
            let Error::TooLarge { what: named, limit: 1_000_000 } = &error else {
                panic!("{error}")
            };
            assert!(named.starts_with(what), "{error}");
        }
    }
}
