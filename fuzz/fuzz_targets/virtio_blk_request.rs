//! A guest's memory as the fuzzer likes it: descriptors, rings and headers. What the parser lets
//! through must lie in that memory and on the disk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use virtio::blk::request::{Geometry, Request, parse};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const MEMORY: usize = 64 << 10;
const RING: u16 = 16;
const SECTORS: u64 = 100;

fuzz_target!(|input: &[u8]| {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
    memory.write_slice(&input[..input.len().min(MEMORY)], GuestAddress(0)).unwrap();
    // The queue does not take 0 for the available ring; the fuzzer's bytes begin with the
    // descriptors, so that short inputs reach far.
    let mut queue = Queue::new(RING).unwrap();
    queue.set_desc_table_address(Some(0), Some(0));
    queue.set_avail_ring_address(Some(0x400), Some(0));
    queue.set_used_ring_address(Some(0x800), Some(0));
    queue.set_ready(true);
    memory.write_obj(1u16, GuestAddress(0x402)).unwrap();
    let Ok(mut chains) = queue.iter(&memory) else { return };
    let Some(chain) = chains.next() else { return };
    let geometry = Geometry { sectors: SECTORS, writable: true };
    let Ok(command) = parse(&memory, chain, geometry) else { return };
    assert!(memory.check_range(command.status, 1));
    let segments = match command.request {
        Ok(Request::Read { offset, segments } | Request::Write { offset, segments }) => {
            let length: u64 = segments.iter().map(|part| u64::from(part.length)).sum();
            assert!(length > 0 && offset % 512 == 0 && length % 512 == 0);
            assert!(offset + length <= SECTORS * 512);
            segments
        }
        Ok(Request::Identity { segments }) => segments,
        Ok(Request::Discard { ranges } | Request::WriteZeroes { ranges }) => {
            assert!((1..=16).contains(&ranges.len()));
            for range in ranges {
                assert!(range.offset % 512 == 0 && range.length % 512 == 0);
                assert!(range.offset + range.length <= SECTORS * 512);
            }
            return;
        }
        _ => return,
    };
    for part in segments {
        assert!(memory.check_range(part.address, part.length as usize));
    }
});
