use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use flate2::read::DeflateDecoder;
use mkext4::RegionSink;
use sha2::{Digest, Sha256};

use super::*;

const CLUSTER: usize = 1 << 16;
const CLUSTER_SIZE: u64 = 1 << 16;

/// A disk of `clusters` clusters with contents in some of them.
fn disk(clusters: u64, contents: &[(u64, Vec<u8>)]) -> SparseFile {
    let mut disk = SparseFile::new(clusters * CLUSTER_SIZE).unwrap();
    for (cluster, bytes) in contents {
        disk.data(cluster * CLUSTER_SIZE, bytes).unwrap();
    }
    disk
}

fn image_of(disk: &SparseFile) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    write(disk, &mut out).unwrap();
    out.into_inner()
}

/// Bytes that do not compress: a small linear congruential generator (Knuth's MMIX constants).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56).to_le_bytes()[0]
    };
    (0..length).map(step).collect()
}

/// A reader of our own, after the specification and not after the writer.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u16(&self, at: u64) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    fn u32(&self, at: u64) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    fn u64(&self, at: u64) -> u64 {
        u64::from_be_bytes(self.bytes(at))
    }

    fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let at = usize::try_from(at).unwrap();
        self.0[at..at + N].try_into().unwrap()
    }

    /// The L2 entry of a guest cluster; zero where nothing is allocated.
    fn entry(&self, cluster: u64) -> u64 {
        let (l1_table, entries) = (self.u64(40), CLUSTER_SIZE / 8);
        let l1 = self.u64(l1_table + cluster / entries * 8);
        if l1 == 0 {
            return 0;
        }
        assert_eq!(l1 >> 63, 1, "L2 tables have refcount one");
        self.u64((l1 & 0x00ff_ffff_ffff_fe00) + cluster % entries * 8)
    }

    fn cluster(&self, cluster: u64) -> Option<Vec<u8>> {
        let entry = self.entry(cluster);
        if entry == 0 {
            return None;
        }
        if entry >> 62 & 1 == 0 {
            let at = usize::try_from(entry & 0x00ff_ffff_ffff_fe00).unwrap();
            return Some(self.0[at..at + CLUSTER].to_vec());
        }
        let at = usize::try_from(entry & ((1 << 54) - 1)).unwrap();
        let sectors = usize::try_from(entry >> 54 & 0xff).unwrap() + 1;
        let end = at / 512 * 512 + sectors * 512;
        let mut out = vec![0; CLUSTER];
        DeflateDecoder::new(&self.0[at..end]).read_exact(&mut out).unwrap();
        Some(out)
    }

    /// How often each host cluster is used, counted from the tables.
    fn uses(&self) -> BTreeMap<u64, u16> {
        let mut uses = BTreeMap::from([(0, 1)]);
        let mut add = |at: u64, length: u64| {
            for host in at / CLUSTER_SIZE..(at + length).div_ceil(CLUSTER_SIZE) {
                *uses.entry(host).or_default() += 1;
            }
        };
        let (l1_table, l1_size) = (self.u64(40), u64::from(self.u32(36)));
        add(l1_table, l1_size * 8);
        for index in 0..l1_size {
            let l1 = self.u64(l1_table + index * 8);
            if l1 != 0 {
                add(l1 & 0x00ff_ffff_ffff_fe00, CLUSTER_SIZE);
            }
        }
        for cluster in 0..self.u64(24).div_ceil(CLUSTER_SIZE) {
            match self.entry(cluster) {
                0 => {}
                entry if entry >> 62 & 1 == 0 => add(entry & 0x00ff_ffff_ffff_fe00, CLUSTER_SIZE),
                entry => {
                    let at = entry & ((1 << 54) - 1);
                    let length = ((entry >> 54 & 0xff) + 1) * 512 - at % 512;
                    add(at, length);
                }
            }
        }
        let (table, clusters) = (self.u64(48), u64::from(self.u32(56)));
        add(table, clusters * CLUSTER_SIZE);
        for index in 0..clusters * CLUSTER_SIZE / 8 {
            let block = self.u64(table + index * 8);
            if block != 0 {
                add(block, CLUSTER_SIZE);
            }
        }
        uses
    }

    fn refcount(&self, host: u64) -> u16 {
        let per_block = CLUSTER_SIZE / 2;
        let block = self.u64(self.u64(48) + host / per_block * 8);
        if block == 0 { 0 } else { self.u16(block + host % per_block * 2) }
    }
}

#[test]
fn what_goes_in_comes_out() {
    let text = b"the quick brown fox ".repeat(CLUSTER / 20);
    let contents = [(0, text.clone()), (3, noise(CLUSTER)), (9000, text)];
    let image = image_of(&disk(9001, &contents));
    let reader = Reader(&image);
    assert_eq!(reader.u32(0), 0x5146_49fb);
    assert_eq!((reader.u32(4), reader.u32(20)), (3, 16));
    assert_eq!(reader.u64(24), 9001 * CLUSTER_SIZE);
    for (cluster, bytes) in contents {
        let mut padded = bytes;
        padded.resize(CLUSTER, 0);
        assert_eq!(reader.cluster(cluster), Some(padded), "cluster {cluster}");
    }
}

#[test]
fn zeros_are_not_allocated() {
    let image = image_of(&disk(100, &[(1, vec![0; CLUSTER]), (2, vec![1])]));
    let reader = Reader(&image);
    assert_eq!(reader.cluster(0), None);
    assert_eq!(reader.cluster(1), None, "written, but with zeros");
    assert!(reader.cluster(2).is_some());
}

#[test]
fn what_does_not_shrink_is_stored_as_it_is() {
    let image = image_of(&disk(4, &[(1, noise(CLUSTER))]));
    assert_eq!(Reader(&image).entry(1) >> 62, 0b10);
}

#[test]
fn every_host_cluster_is_counted_as_often_as_it_is_used() {
    let mut contents: Vec<_> =
        (0..40).zip((3000..).step_by(500)).map(|(at, size)| (at * 3, noise(size))).collect();
    contents.push((8200, noise(CLUSTER)));
    let image = image_of(&disk(8300, &contents));
    let reader = Reader(&image);
    let uses = reader.uses();
    for host in 0..image.len() as u64 / CLUSTER_SIZE + 10 {
        let used = uses.get(&host).copied().unwrap_or(0);
        assert_eq!(reader.refcount(host), used, "host cluster {host}");
    }
}

#[test]
fn an_empty_disk_is_a_valid_image() {
    let image = image_of(&disk(4, &[]));
    let reader = Reader(&image);
    assert_eq!(reader.u32(36), 1, "one L1 entry");
    assert_eq!(reader.cluster(3), None);
}

/// Changes only when the layout or the pinned compressor changes: then every image gets another
/// digest, which wants to be known before it is published.
#[test]
fn the_bytes_are_those_of_this_version() {
    let contents = [(0, b"lanebox ".repeat(6000)), (5, noise(40_000))];
    let image = image_of(&disk(600, &contents));
    let digest: [u8; 32] = Sha256::digest(&image).into();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "3e2d44c6b4ce359ff20c1c3556aea1c62773844daa9fb640e4f87d2cdd36de93");
}
