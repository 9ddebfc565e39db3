//! Chains a driver should never make, and those it may.

#![allow(clippy::cast_possible_truncation, reason = "flags of descriptors have 16 bits")]

use proptest::prelude::*;
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use virtio_queue::{Queue, QueueOwnedT};

use vm_memory::GuestMemoryBackend;

use super::*;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

const RING: u16 = 16;
const MEMORY: usize = 1 << 20;
/// Beyond the ring's own tables.
const HEADER: u64 = 0x8000;
const DATA: u64 = 0x1_0000;
const SECTORS: u64 = 1000;
const WRITABLE: Geometry = Geometry { sectors: SECTORS, writable: true };
const READ_ONLY: Geometry = Geometry { sectors: SECTORS, writable: false };

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
}

fn put_header(memory: &GuestMemoryMmap, kind: u32, sector: u64) {
    memory.write_obj(u64::from(kind).to_le(), GuestAddress(HEADER)).unwrap();
    memory.write_obj(sector.to_le(), GuestAddress(HEADER + 8)).unwrap();
}

/// What comes out for a table of descriptors, of which the first is the chain's head.
fn parse_table(
    memory: &GuestMemoryMmap,
    table: &[(u64, u32, u16, u16)],
) -> Result<Command, ChainError> {
    parse_table_for(memory, table, WRITABLE)
}

fn parse_table_for(
    memory: &GuestMemoryMmap,
    table: &[(u64, u32, u16, u16)],
    geometry: Geometry,
) -> Result<Command, ChainError> {
    let ring = MockSplitQueue::new(memory, RING);
    for (index, (address, length, flags, next)) in (0..).zip(table) {
        let descriptor = Descriptor::new(*address, *length, *flags, *next);
        ring.desc_table().store(index, RawDescriptor::from(descriptor)).unwrap();
    }
    ring.avail().ring().ref_at(0).unwrap().store(0);
    ring.avail().idx().store(1);
    let mut queue: Queue = ring.create_queue().unwrap();
    let chain = queue.iter(memory).unwrap().next().unwrap();
    parse(memory, chain, geometry)
}

/// Address, length and flags of a descriptor.
type Link = (u64, u32, u16);

/// A chain of descriptors, linked one to the next.
fn parse_chain(memory: &GuestMemoryMmap, chain: &[Link]) -> Result<Command, ChainError> {
    let last = chain.len() - 1;
    let table: Vec<_> = (0..)
        .zip(chain)
        .map(|(index, (address, length, flags))| {
            let link = if usize::from(index) < last { NEXT } else { 0 };
            (*address, *length, *flags | link, index + 1)
        })
        .collect();
    parse_table(memory, &table)
}

fn request(kind: u32, sector: u64, data: &[(u64, u32)]) -> Result<Request, Status> {
    let memory = memory();
    put_header(&memory, kind, sector);
    let mut chain = vec![(HEADER, 16, 0)];
    chain.extend(data.iter().map(|(address, length)| (*address, *length, WRITE)));
    chain.push((HEADER + 16, 1, WRITE));
    let command = parse_chain(&memory, &chain).unwrap();
    assert_eq!(command.status, GuestAddress(HEADER + 16));
    command.request
}

fn segment(address: u64, length: u32) -> Segment {
    Segment { address: GuestAddress(address), length }
}

#[test]
fn a_read_in_the_usual_form() {
    let read = request(VIRTIO_BLK_T_IN, 7, &[(DATA, 512), (DATA + 4096, 1024)]);
    let segments = vec![segment(DATA, 512), segment(DATA + 4096, 1024)];
    assert_eq!(read, Ok(Request::Read { offset: 7 * 512, segments }));
}

#[test]
fn a_header_in_pieces_and_a_status_at_the_end_of_the_data() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_IN, 3);
    let chain = [(HEADER, 1, 0), (HEADER + 1, 9, 0), (HEADER + 10, 6, 0), (DATA, 513, WRITE)];
    let command = parse_chain(&memory, &chain).unwrap();
    assert_eq!(command.status, GuestAddress(DATA + 512));
    let segments = vec![segment(DATA, 512)];
    assert_eq!(command.request, Ok(Request::Read { offset: 3 * 512, segments }));
}

#[test]
fn the_same_through_an_indirect_table() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_IN, 0);
    let table = [(HEADER, 16, NEXT, 1), (DATA, 512, WRITE | NEXT, 2), (DATA + 512, 1, WRITE, 0)];
    for (index, (address, length, flags, next)) in (0u64..).zip(table) {
        let descriptor = RawDescriptor::from(Descriptor::new(address, length, flags, next));
        memory.write_obj(descriptor, GuestAddress(0x9000 + index * 16)).unwrap();
    }
    let command = parse_table(&memory, &[(0x9000, 48, INDIRECT, 0)]).unwrap();
    let segments = vec![segment(DATA, 512)];
    assert_eq!(command.request, Ok(Request::Read { offset: 0, segments }));

    // A table in a table, and tables that are no whole number of descriptors, or none at all.
    memory
        .write_obj(
            RawDescriptor::from(Descriptor::new(0x9000, 48, INDIRECT, 0)),
            GuestAddress(0xa000),
        )
        .unwrap();
    for table in [(0xa000, 16), (0x9000, 47), (0x9000, 0), (u64::MAX - 15, 48), (MEMORY as u64, 48)]
    {
        let chain = [(table.0, table.1, INDIRECT, 0)];
        assert_eq!(parse_table(&memory, &chain), Err(ChainError::Endless), "{table:x?}");
    }
}

#[test]
fn reads_that_do_not_fit_the_disk_are_io_errors() {
    for (sector, length) in [
        (SECTORS, 512),
        (SECTORS - 1, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (0, 511),
        (0, 513),
        (0, 1),
    ] {
        let answer = request(VIRTIO_BLK_T_IN, sector, &[(DATA, length)]);
        assert_eq!(answer, Err(Status::IoError), "{length} bytes at {sector}");
    }
    assert_eq!(request(VIRTIO_BLK_T_IN, 0, &[]), Err(Status::IoError), "no data");
    assert!(request(VIRTIO_BLK_T_IN, SECTORS - 1, &[(DATA, 512)]).is_ok());
}

/// A request with data that the device reads.
fn request_with(
    kind: u32,
    sector: u64,
    data: &[u8],
    geometry: Geometry,
) -> Result<Request, Status> {
    let memory = memory();
    put_header(&memory, kind, sector);
    memory.write_slice(data, GuestAddress(DATA)).unwrap();
    let length = u32::try_from(data.len()).unwrap();
    let mut chain = vec![(HEADER, 16, 0)];
    if length > 1 {
        // In two pieces, of which the first is odd.
        chain.extend([(DATA, 1, 0), (DATA + 1, length - 1, 0)]);
    }
    chain.push((HEADER + 16, 1, WRITE));
    let last = chain.len() - 1;
    let table: Vec<_> = (0..)
        .zip(&chain)
        .map(|(index, (address, length, flags))| {
            let link = if usize::from(index) < last { NEXT } else { 0 };
            (*address, *length, *flags | link, index + 1)
        })
        .collect();
    parse_table_for(&memory, &table, geometry).unwrap().request
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn a_write_takes_what_follows_the_header() {
    let write = request_with(VIRTIO_BLK_T_OUT, 7, &[0; 1024], WRITABLE);
    let segments = vec![segment(DATA, 1), segment(DATA + 1, 1023)];
    assert_eq!(write, Ok(Request::Write { offset: 7 * 512, segments }));
    for (sector, length) in [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (0, 513), (0, 0)]
    {
        let refused = request_with(VIRTIO_BLK_T_OUT, sector, &vec![0; length], WRITABLE);
        assert_eq!(refused, Err(Status::IoError), "{length} bytes at {sector}");
    }
    // Somewhere to write to is not what a write has.
    assert_eq!(request(VIRTIO_BLK_T_OUT, 0, &[(DATA, 512)]), Err(Status::IoError));
}

#[test]
fn a_header_and_its_data_in_one_descriptor() {
    let memory = memory();
    put_header(&memory, VIRTIO_BLK_T_OUT, 3);
    let chain = [(HEADER, 16 + 512, 0), (DATA, 1, WRITE)];
    let command = parse_chain(&memory, &chain).unwrap();
    let segments = vec![segment(HEADER + 16, 512)];
    assert_eq!(command.request, Ok(Request::Write { offset: 3 * 512, segments }));
}

#[test]
fn ranges_to_discard_and_to_zero() {
    let two = [range(5, 10, 0), range(SECTORS - 1, 1, 0)].concat();
    let ranges = vec![
        DiskRange { offset: 5 * 512, length: 5120 },
        DiskRange { offset: (SECTORS - 1) * 512, length: 512 },
    ];
    let discard = request_with(VIRTIO_BLK_T_DISCARD, 0, &two, WRITABLE);
    assert_eq!(discard, Ok(Request::Discard { ranges: ranges.clone() }));
    let zeroes = request_with(VIRTIO_BLK_T_WRITE_ZEROES, 0, &two, WRITABLE);
    assert_eq!(zeroes, Ok(Request::WriteZeroes { ranges }));
    let unmap = request_with(VIRTIO_BLK_T_WRITE_ZEROES, 0, &range(1, 1, 1), WRITABLE);
    assert!(matches!(unmap, Ok(Request::WriteZeroes { .. })));
}

#[test]
fn ranges_that_cannot_be() {
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        for (data, status) in [
            (vec![], Status::IoError),
            (vec![0; 15], Status::IoError),
            (range(0, 1, 0).repeat(17), Status::IoError),
            (range(SECTORS, 1, 0), Status::IoError),
            (range(u64::MAX, 1, 0), Status::IoError),
            (range(0, u32::MAX, 0), Status::IoError),
            (range(0, 1, 2), Status::Unsupported),
            ([range(0, 1, 0), range(SECTORS, 1, 0)].concat(), Status::IoError),
        ] {
            assert_eq!(request_with(kind, 0, &data, WRITABLE), Err(status), "{data:?}");
        }
    }
    let unmap = request_with(VIRTIO_BLK_T_DISCARD, 0, &range(0, 1, 1), WRITABLE);
    assert_eq!(unmap, Err(Status::Unsupported));
}

#[test]
fn what_changes_a_read_only_disk_is_an_io_error_and_the_unknown_is_unsupported() {
    for (kind, data) in [
        (VIRTIO_BLK_T_OUT, vec![0; 512]),
        (VIRTIO_BLK_T_DISCARD, range(0, 1, 0)),
        (VIRTIO_BLK_T_WRITE_ZEROES, range(0, 1, 0)),
        (VIRTIO_BLK_T_SECURE_ERASE, range(0, 1, 0)),
    ] {
        let refused = request_with(kind, 0, &data, READ_ONLY);
        assert_eq!(refused, Err(Status::IoError), "type {kind}");
        let done = request_with(kind, 0, &data, WRITABLE);
        assert_eq!(done.is_ok(), kind != VIRTIO_BLK_T_SECURE_ERASE, "type {kind}");
    }
    for kind in [2, 3, 5, 9, 15, 16, 26, 1 << 31, u32::MAX] {
        assert_eq!(request(kind, 0, &[]), Err(Status::Unsupported), "type {kind}");
    }
    assert_eq!(request(VIRTIO_BLK_T_FLUSH, 0, &[]), Ok(Request::Flush));
}

#[test]
fn the_identity_needs_its_twenty_bytes() {
    assert_eq!(request(VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 19)]), Err(Status::IoError));
    let segments = vec![segment(DATA, 20)];
    assert_eq!(request(VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20)]), Ok(Request::Identity { segments }));
}

#[test]
fn chains_that_cannot_be_answered() {
    let end = MEMORY as u64;
    let broken: &[(&[Link], ChainError)] = &[
        (&[(HEADER, 16, 0)], ChainError::NoStatus),
        (&[(HEADER, 15, 0), (DATA, 1, WRITE)], ChainError::NoHeader),
        (&[(DATA, 513, WRITE)], ChainError::NoHeader),
        (&[(HEADER, 16, 0), (DATA, 0, WRITE), (DATA, 1, WRITE)], ChainError::Empty),
        (
            &[(HEADER, 16, 0), (DATA, 512, WRITE), (DATA, 16, 0), (DATA, 1, WRITE)],
            ChainError::Order,
        ),
        (&[(HEADER, 16, 0), (end, 1, WRITE)], ChainError::OutsideMemory),
        (&[(HEADER, 16, 0), (end - 511, 512, WRITE)], ChainError::OutsideMemory),
        (&[(HEADER, 16, 0), (u64::MAX, 1, WRITE)], ChainError::OutsideMemory),
        (&[(HEADER, 16, 0), (u64::MAX - 8, u32::MAX - 16, WRITE)], ChainError::OutsideMemory),
        (&[(end - 8, 16, 0), (DATA, 1, WRITE)], ChainError::OutsideMemory),
    ];
    for (chain, error) in broken {
        let memory = memory();
        put_header(&memory, VIRTIO_BLK_T_IN, 0);
        assert_eq!(parse_chain(&memory, chain).as_ref(), Err(error), "{chain:x?}");
    }
}

#[test]
fn chains_without_an_end() {
    let memory = memory();
    let itself = [(HEADER, 16, NEXT, 0)];
    let between_two = [(HEADER, 16, NEXT, 1), (HEADER, 16, NEXT, 0)];
    let out_of_the_table = [(HEADER, 16, NEXT, RING)];
    let far_out = [(HEADER, 16, NEXT, u16::MAX)];
    for table in [&itself[..], &between_two, &out_of_the_table, &far_out] {
        assert_eq!(parse_table(&memory, table), Err(ChainError::Endless), "{table:x?}");
    }
}

#[test]
fn a_chain_longer_than_any_request() {
    let memory = memory();
    let count = u64::try_from(MAX_DESCRIPTORS).unwrap() + 1;
    for index in 0..count {
        let next = u16::try_from(index + 1).unwrap();
        let descriptor = RawDescriptor::from(Descriptor::new(DATA, 1, NEXT, next));
        memory.write_obj(descriptor, GuestAddress(0x4_0000 + index * 16)).unwrap();
    }
    let table = [(0x4_0000, u32::try_from(count * 16).unwrap(), INDIRECT, 0)];
    assert_eq!(parse_table(&memory, &table), Err(ChainError::TooLong));
}

#[test]
fn a_request_of_more_bytes_than_allowed() {
    let large = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 64 << 20)]).unwrap();
    put_header(&large, VIRTIO_BLK_T_IN, 0);
    let bytes = u32::try_from(MAX_REQUEST_BYTES).unwrap() + 512;
    let chain = [(HEADER, 16, 0), (DATA, bytes, WRITE), (DATA, 1, WRITE)];
    let ring = parse_chain(&large, &chain).unwrap();
    assert_eq!(ring.request, Err(Status::IoError));
}

/// Addresses at which something is decided.
fn address() -> impl Strategy<Value = u64> {
    let end = MEMORY as u64;
    prop_oneof![
        4 => 0..end,
        2 => Just(HEADER),
        2 => Just(DATA),
        1 => (end - 600)..(end + 600),
        1 => any::<u64>(),
        1 => (u64::MAX - 600)..=u64::MAX,
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => (1u32..40).prop_map(|sectors| sectors * 512),
        2 => 0u32..600,
        2 => Just(16),
        2 => Just(1),
        1 => any::<u32>(),
    ]
}

fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let flags = prop_oneof![
        4 => Just(NEXT),
        4 => Just(NEXT | WRITE),
        2 => Just(WRITE),
        1 => Just(0),
        1 => Just(INDIRECT),
        1 => any::<u16>(),
    ];
    (address(), length(), flags, prop_oneof![8 => 0..RING, 1 => any::<u16>()])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_out_lies_in_the_memory_and_on_the_disk(
        table in prop::collection::vec(descriptor(), 1..usize::from(RING)),
        indirect in prop::collection::vec(descriptor(), 0..8),
        kind in prop_oneof![4 => Just(0u32), 3 => Just(1u32), 2 => 0u32..20, 1 => any::<u32>()],
        sector in prop_oneof![3 => 0..SECTORS, 1 => any::<u64>()],
    ) {
        let memory = memory();
        put_header(&memory, kind, sector);
        for (index, (address, length, flags, next)) in (0u64..).zip(indirect) {
            let descriptor = RawDescriptor::from(Descriptor::new(address, length, flags, next));
            memory.write_obj(descriptor, GuestAddress(DATA + index * 16)).unwrap();
        }
        let Ok(command) = parse_table(&memory, &table) else { return Ok(()) };
        prop_assert!(memory.check_range(command.status, 1));
        let segments = match command.request {
            Ok(Request::Read { offset, segments } | Request::Write { offset, segments }) => {
                let length: u64 = segments.iter().map(|part| u64::from(part.length)).sum();
                prop_assert!(length > 0 && length <= MAX_REQUEST_BYTES);
                prop_assert!(offset.is_multiple_of(512) && length.is_multiple_of(512));
                prop_assert!(offset + length <= SECTORS * 512);
                segments
            }
            Ok(Request::Identity { segments }) => segments,
            Ok(Request::Discard { ranges } | Request::WriteZeroes { ranges }) => {
                prop_assert!(!ranges.is_empty());
                for DiskRange { offset, length } in ranges {
                    prop_assert!(offset.is_multiple_of(512) && length.is_multiple_of(512));
                    prop_assert!(offset + length <= SECTORS * 512);
                }
                Vec::new()
            }
            Ok(Request::Flush) | Err(_) => Vec::new(),
        };
        for part in segments {
            prop_assert!(part.length > 0);
            prop_assert!(memory.check_range(part.address, part.length as usize));
        }
    }
}
