//! Disks that can be written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use blockcow::store::Listing;
use blockcow::{
    BlockChunk, BlockStore, BufferTarget, Disk, MemoryStore, OverlayOptions, StoreContext,
    StoreError,
};
use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{FrontEnd, disk, sector_content};
use crate::socket::{GET_CONFIG, GET_FEATURES};

const OUT: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const FEATURE_FLUSH: u64 = 1 << 9;

/// Counts flushes.
struct Counting {
    store: MemoryStore,
    flushes: AtomicUsize,
}

impl BlockStore for Counting {
    fn block_size(&self) -> u32 {
        self.store.block_size()
    }

    fn writes_through(&self) -> bool {
        self.store.writes_through()
    }

    fn list<'a>(&'a self, context: &'a StoreContext) -> Listing<'a> {
        self.store.list(context)
    }

    fn read<'a>(
        &'a self,
        range: std::ops::Range<u64>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<Vec<BlockChunk>, StoreError>> {
        self.store.read(range, context)
    }

    fn write<'a>(
        &'a self,
        chunks: Vec<BlockChunk>,
        context: &'a StoreContext,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.write(chunks, context)
    }

    fn flush<'a>(&'a self, context: &'a StoreContext) -> BoxFuture<'a, Result<(), StoreError>> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.store.flush(context)
    }
}

struct Machine {
    disk: Arc<Disk>,
    store: Arc<Counting>,
    runtime: Runtime,
}

/// A writable disk over one whose bytes tell their sector.
fn machine(sectors: u64, quota: u64) -> Machine {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = Counting { store: MemoryStore::new(quota), flushes: AtomicUsize::new(0) };
    let store = Arc::new(store);
    let context = StoreContext { base: Arc::from("sha256:test"), generation: 1 };
    let base = disk(sectors);
    let open = base.with_store(Arc::clone(&store) as _, context, OverlayOptions::default());
    let disk = Arc::new(runtime.block_on(open).unwrap());
    Machine { disk, store, runtime }
}

impl Machine {
    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.disk.size_bytes()).unwrap()];
        self.runtime.block_on(self.disk.read(0, &mut BufferTarget::new(&mut bytes))).unwrap();
        bytes
    }
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn the_features_and_limits_of_a_writable_disk() {
    let machine = machine(64, 1 << 20);
    let front_end = FrontEnd::connect(Arc::clone(&machine.disk));
    let features = front_end.socket.ask_u64(GET_FEATURES);
    // Flush, several queues, discard, write zeroes.
    for bit in [9, 12, 13, 14] {
        assert!(features & 1 << bit != 0, "feature {bit}");
    }
    // Neither read-only nor a cache mode that could be set.
    assert_eq!(features & (1 << 5 | 1 << 11), 0);
    let header = [0u32.to_ne_bytes(), 60u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat();
    let answer = front_end.socket.ask(GET_CONFIG, &[header, vec![0; 60]].concat()).unwrap();
    let word = |at: usize| u32::from_le_bytes(answer[12 + at..16 + at].try_into().unwrap());
    // Discard: sectors, ranges, alignment; zeroes: sectors, ranges.
    assert_eq!([36, 40, 44, 48, 52].map(word), [512 << 10, 16, 8, 512 << 10, 16]);
    assert_eq!(answer[12 + 56], 1, "zeroing may unmap");
    front_end.server.stop().unwrap();
}

#[test]
fn what_is_written_zeroed_and_discarded_is_on_the_disk() {
    let machine = machine(1024, 64 << 20);
    let front_end = FrontEnd::running_with(Arc::clone(&machine.disk), FEATURE_FLUSH);
    let mut expected = machine.content();
    front_end.put_change(0, 0, OUT, 3, &[7; 1024]);
    front_end.put_change(0, 1, OUT, 100, &[8; 16_384]);
    front_end.put_change(0, 2, WRITE_ZEROES, 0, &[range(200, 9, 1), range(300, 1, 0)].concat());
    front_end.put_change(0, 3, DISCARD, 0, &range(400, 100, 0));
    front_end.submit(0, &[0, 3, 6, 9]);
    front_end.wait_used(0, 4);
    for slot in 0..4 {
        assert_eq!(front_end.status(slot), 0, "request {slot}");
        assert_eq!(front_end.used_entry(0, u64::from(slot)).1, 1, "only the status is written");
    }
    expected[3 * 512..5 * 512].fill(7);
    expected[100 * 512..132 * 512].fill(8);
    for (sector, count) in [(200, 9), (300, 1), (400, 100)] {
        expected[sector * 512..(sector + count) * 512].fill(0);
    }
    assert!(machine.content() == expected);
    assert_eq!(machine.store.flushes.load(Ordering::Relaxed), 0);
    front_end.put_change(0, 0, FLUSH, 0, &[]);
    front_end.submit(0, &[0]);
    front_end.wait_used(0, 5);
    assert_eq!(front_end.status(0), 0);
    assert_eq!(machine.store.flushes.load(Ordering::Relaxed), 1);
    // And the guest reads what it has written.
    let data = front_end.put_read(1, 9, 3, 2);
    front_end.submit(1, &[27]);
    front_end.wait_used(1, 1);
    let mut bytes = [0; 1024];
    front_end.memory.read_slice(&mut bytes, GuestAddress(data)).unwrap();
    assert_eq!(bytes, [7; 1024]);
    front_end.server.stop().unwrap();
}

#[test]
fn for_a_driver_that_cannot_flush_each_change_is_durable() {
    let machine = machine(64, 1 << 20);
    let front_end = FrontEnd::running(Arc::clone(&machine.disk));
    for round in 0..3 {
        front_end.put_change(0, 0, OUT, 3, &[7; 512]);
        front_end.submit(0, &[0]);
        front_end.wait_used(0, round + 1);
        assert_eq!(front_end.status(0), 0);
        assert_eq!(machine.store.flushes.load(Ordering::Relaxed), usize::from(round) + 1);
    }
    front_end.server.stop().unwrap();
}

#[test]
fn a_full_store_is_an_io_error_and_the_device_goes_on() {
    let machine = machine(1024, 8 * 4300);
    let front_end = FrontEnd::running_with(Arc::clone(&machine.disk), FEATURE_FLUSH);
    for slot in 0..16u16 {
        front_end.put_change(0, slot, OUT, u64::from(slot) * 8, &[9; 4096]);
    }
    front_end.submit(0, &(0..16).map(|slot| slot * 3).collect::<Vec<_>>());
    front_end.wait_used(0, 16);
    let statuses: Vec<u8> = (0..16).map(|slot| front_end.status(slot)).collect();
    assert_eq!(statuses, [[0; 8], [1; 8]].concat());
    assert_eq!(machine.content()[64 * 512..65 * 512], sector_content(64));
    assert!(front_end.server.failure().is_none());
    front_end.server.stop().unwrap();
}

#[test]
fn a_read_only_disk_refuses_changes_and_does_not_offer_them() {
    let front_end = FrontEnd::running(disk(64));
    for (slot, kind, data) in
        [(0, OUT, vec![1; 512]), (1, DISCARD, range(0, 8, 0)), (2, WRITE_ZEROES, range(0, 8, 0))]
    {
        front_end.put_change(0, slot, kind, 0, &data);
    }
    front_end.submit(0, &[0, 3, 6]);
    front_end.wait_used(0, 3);
    assert_eq!([0, 1, 2].map(|slot| front_end.status(slot)), [1, 1, 1]);
    front_end.server.stop().unwrap();
}
