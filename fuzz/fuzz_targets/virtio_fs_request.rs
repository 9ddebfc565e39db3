//! A guest's memory as the fuzzer likes it: descriptors, rings and FUSE requests, to a host
//! directory. What the parser lets through lies in that memory, and no reply is longer than its
//! room.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vfs::Observer;
use vfs::fuse::{Limits, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};
use virtio::fs::request::parse;
use virtio::memory::SharedMemory;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

const MEMORY: usize = 64 << 10;
const RING: u16 = 16;

struct Share {
    folder: TempDir,
    runtime: Runtime,
}

fn share() -> &'static Share {
    static SHARE: OnceLock<Share> = OnceLock::new();
    SHARE.get_or_init(|| {
        let folder = TempDir::new().expect("a temporary directory");
        std::fs::write(folder.path().join("file"), "content").expect("a small file");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        Share { folder, runtime }
    })
}

fuzz_target!(|input: &[u8]| {
    let share = share();
    // Two regions, so that pieces can cross from one into the other.
    let half = MEMORY / 2;
    let ranges = [(GuestAddress(0), half), (GuestAddress(half as u64), half)];
    let memory = SharedMemory::new(GuestMemoryMmap::from_ranges(&ranges).unwrap()).memory();
    memory.write_slice(&input[..input.len().min(MEMORY)], GuestAddress(0)).unwrap();
    let mut queue = Queue::new(RING).unwrap();
    queue.set_desc_table_address(Some(0), Some(0));
    queue.set_avail_ring_address(Some(0x400), Some(0));
    queue.set_used_ring_address(Some(0x800), Some(0));
    queue.set_ready(true);
    let Ok(chains) = queue.iter(&*memory) else { return };
    // Read-only: what fills a disk or waits on one is not what is looked for.
    let options = HostDirOptions::new(share.folder.path(), Access::ReadOnly);
    let fs = HostDir::new(options, &Observer::new(|_| {})).expect("the share can be opened");
    let server = Server::new(fs, Limits::default(), Observer::new(|_| {}));
    for chain in chains.take(usize::from(RING)) {
        let Ok(mut request) = parse(&memory, chain) else { return };
        share.runtime.block_on(async {
            let room = request.reply.capacity();
            assert!(server.handle(request.bytes, &mut request.reply).await <= room);
        });
    }
});
