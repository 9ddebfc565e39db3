//! Disks.

use std::collections::BTreeSet;

use engine::probe::EngineKind;
use payload_guest::{checksum, pattern};

use crate::block_driver::{
    Block, DISCARD, SECTOR, Status, WRITE_ZEROES, plain, read_chain, spec_of, status, sum_of,
    writable,
};
use crate::on_every_engine;
use crate::support::{boot, spec};

on_every_engine! {
    what_the_guest_writes_is_on_the_disk_and_what_is_there_it_reads,
    discarded_and_zeroed_ranges_read_as_zeroes,
    a_disk_that_cannot_be_written_says_so,
    as_many_disks_as_are_allowed_are_told_apart,
    requests_side_by_side_come_back_each_with_its_own,
    a_request_that_is_done_raises_the_interrupt_until_it_is_acknowledged,
}

/// Feature bits (virtio 1.2, 5.2.3).
const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;

pub(crate) async fn what_the_guest_writes_is_on_the_disk_and_what_is_there_it_reads(
    kind: EngineKind,
) {
    const SECTORS: usize = 8192;
    let disk = writable(SECTORS, 100).await;
    let (_vm, mut guest) =
        boot(kind, engine::VmSpec { disks: vec![spec_of("first", &disk)], ..spec() }).await;
    let [block] = &Block::all(&mut guest).await[..] else { panic!("one disk") };
    assert_eq!(block.offered & (RO | FLUSH), FLUSH);
    assert_eq!(block.capacity(&mut guest).await, SECTORS as u64);
    assert_eq!(block.identity(&mut guest).await, "first");
    // One sector, several, and a megabyte that no request of Linux' would be.
    for (sector, bytes) in [(0, SECTOR), (8191, SECTOR), (9, 24 * SECTOR), (2048, 1 << 20)] {
        let there = pattern(bytes, 100 + sector * 64);
        assert_eq!(block.read(&mut guest, sector, bytes).await, checksum(&there), "{sector}");
        let seed = 1 << 40 | sector;
        assert_eq!(block.write(&mut guest, sector, bytes, seed).await, Status::Ok);
        let written = checksum(&pattern(bytes, seed));
        assert_eq!(block.read(&mut guest, sector, bytes).await, written, "{sector}");
        assert_eq!(sum_of(&disk, sector, bytes).await, written, "{sector}");
    }
    assert_eq!(block.flush(&mut guest).await, Status::Ok);
    // The neighbours are what they were.
    assert_eq!(sum_of(&disk, 1, 8 * SECTOR).await, checksum(&pattern(8 * SECTOR, 164)));
    // Past the end, and a type that there is not.
    assert_eq!(block.try_read(&mut guest, 8192, SECTOR).await, Status::IoError);
    assert_eq!(block.try_read(&mut guest, 8191, 2 * SECTOR).await, Status::IoError);
    assert_eq!(block.try_read(&mut guest, u64::MAX, SECTOR).await, Status::IoError);
    assert_eq!(block.try_read(&mut guest, 0, SECTOR - 1).await, Status::IoError);
    assert_eq!(block.unknown(&mut guest).await, Status::Unsupported);
}

async fn discarded_and_zeroed_ranges_read_as_zeroes(kind: EngineKind) {
    let disk = writable(2048, 5).await;
    let (_vm, mut guest) =
        boot(kind, engine::VmSpec { disks: vec![spec_of("disk", &disk)], ..spec() }).await;
    let block = Block::all(&mut guest).await.remove(0);
    let zeroes = checksum(&[0; 128 * SECTOR]);
    for (request, sector) in [(DISCARD, 128), (WRITE_ZEROES, 1024)] {
        assert_ne!(block.read(&mut guest, sector, 128 * SECTOR).await, zeroes);
        assert_eq!(block.clear(&mut guest, request, sector, 128).await, Status::Ok);
        assert_eq!(block.read(&mut guest, sector, 128 * SECTOR).await, zeroes);
        assert_eq!(sum_of(&disk, sector, 128 * SECTOR).await, zeroes);
        let next = checksum(&pattern(SECTOR, 5 + (sector + 128) * 64));
        assert_eq!(block.read(&mut guest, sector + 128, SECTOR).await, next);
        assert_eq!(block.clear(&mut guest, request, 2047, 2).await, Status::IoError);
    }
}

async fn a_disk_that_cannot_be_written_says_so(kind: EngineKind) {
    let disk = plain(64, 3);
    let (_vm, mut guest) =
        boot(kind, engine::VmSpec { disks: vec![spec_of("plain", &disk)], ..spec() }).await;
    let block = Block::all(&mut guest).await.remove(0);
    assert_eq!(block.offered & (RO | FLUSH), RO);
    assert_eq!(block.write(&mut guest, 0, SECTOR, 1).await, Status::IoError);
    assert_ne!(block.clear(&mut guest, DISCARD, 0, 8).await, Status::Ok);
    let there = checksum(&pattern(64 * SECTOR, 3));
    assert_eq!(block.read(&mut guest, 0, 64 * SECTOR).await, there);
}

async fn as_many_disks_as_are_allowed_are_told_apart(kind: EngineKind) {
    let mut spec = spec();
    let mut disks = Vec::new();
    for index in 0..engine::VmSpec::MAX_DISKS {
        let disk = writable(64 + index, 1000 * index as u64).await;
        spec.disks.push(spec_of(&format!("disk-{index}"), &disk));
        disks.push(disk);
    }
    let (_vm, mut guest) = boot(kind, spec).await;
    let blocks = Block::all(&mut guest).await;
    assert_eq!(blocks.len(), disks.len());
    for (index, (block, disk)) in blocks.iter().zip(&disks).enumerate() {
        assert_eq!(block.identity(&mut guest).await, format!("disk-{index}"));
        assert_eq!(block.capacity(&mut guest).await, 64 + index as u64);
        assert_eq!(block.write(&mut guest, 7, SECTOR, index as u64).await, Status::Ok);
        let written = checksum(&pattern(SECTOR, index as u64));
        assert_eq!(sum_of(disk, 7, SECTOR).await, written);
    }
}

async fn requests_side_by_side_come_back_each_with_its_own(kind: EngineKind) {
    let disk = plain(4096, 0);
    let (_vm, mut guest) =
        boot(kind, engine::VmSpec { disks: vec![spec_of("disk", &disk)], ..spec() }).await;
    let block = Block::all(&mut guest).await.remove(0);
    for round in 0..2u64 {
        let mut expected = BTreeSet::new();
        for number in 0..40u64 {
            let sector = round * 97 + number * 64;
            let head = guest.post(block.device, 0, &read_chain(sector, 4096)).await.unwrap();
            expected.insert((head, checksum(&pattern(4096, sector * 64))));
        }
        for _ in 0..40 {
            let (taken, head) = guest.take(block.device, 0).await.unwrap();
            assert_eq!(status(&taken), Status::Ok);
            assert!(expected.remove(&(head, taken.inputs[0].sum)), "{head}");
        }
        assert!(expected.is_empty());
    }
}

async fn a_request_that_is_done_raises_the_interrupt_until_it_is_acknowledged(kind: EngineKind) {
    // InterruptStatus and InterruptACK (virtio 1.2, 4.2.2).
    const STATUS: u32 = 0x60;
    const ACKNOWLEDGE: u32 = 0x64;
    let disk = plain(64, 0);
    let disks = vec![spec_of("disk", &disk)];
    let (_vm, mut guest) = boot(kind, engine::VmSpec { disks, ..spec() }).await;
    let block = Block::all(&mut guest).await.remove(0);
    let device = block.device;
    for _ in 0..3 {
        block.read(&mut guest, 0, SECTOR).await;
        // The answer may be seen before the interrupt is.
        while guest.numbers(&format!("read {device} {STATUS}")).await.unwrap() != [1] {}
        guest.ask(&format!("write {device} {ACKNOWLEDGE} 1")).await.unwrap();
        let status = guest.numbers(&format!("read {device} {STATUS}")).await.unwrap();
        assert_eq!(status, [0]);
    }
}
