//! The virtio-fs device as a driver sees it, a well-behaved one and others.

use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Semaphore;
use vfs::fuse::{Limits, Serve, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};
use vfs::{Observer, Readable, Writable};
use virtio::{DeviceError, serve_filesystem};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{DATA, FrontEnd, MEMORY, NEXT, RING, WRITE};
use crate::socket::{
    CONFIG, GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, PROTOCOL_FEATURES, RESET_OWNER,
};

const INIT: u32 = 26;
const FORGET: u32 = 2;
const LOOKUP: u32 = 1;
const ROOT: u64 = 1;
const REQUESTS: u64 = DATA;
const REPLIES: u64 = 4 << 20;
/// Bytes between two requests, and between two replies.
const PLACE: u64 = 16 << 10;
/// The opcode that [`Gate`] does not answer before it is opened.
const WAIT: u32 = 4_000;

/// Address, length and flags of each descriptor of a chain.
type Pieces<'a> = &'a [(u64, u32, u16)];

/// A server in front of another that holds requests back.
struct Gate {
    inner: Server<HostDir>,
    open: Semaphore,
    waiting: AtomicUsize,
    resets: AtomicUsize,
    _share: tempfile::TempDir,
}

impl Gate {
    fn new() -> Arc<Self> {
        let share = tempfile::tempdir().unwrap();
        std::fs::write(share.path().join("file"), b"content").unwrap();
        let options = HostDirOptions::new(share.path(), Access::ReadWrite);
        let inner = HostDir::new(options, &Observer::log()).unwrap();
        let inner = Server::new(inner, Limits::default(), Observer::log());
        let [waiting, resets] = [(); 2].map(|()| AtomicUsize::new(0));
        Arc::new(Self { inner, open: Semaphore::new(0), waiting, resets, _share: share })
    }

    fn inodes(&self) -> usize {
        self.inner.file_system().held().inodes
    }
}

/// Counts a request that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Serve for Gate {
    fn handle<'a>(
        &'a self,
        mut request: Readable,
        reply: &'a mut Writable,
    ) -> Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
        let copy = request.take_vec(usize::MAX);
        Box::pin(async move {
            if copy.get(4..8) == Some(&WAIT.to_le_bytes()) {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let _waiting = Waiting(&self.waiting);
                let _ = self.open.acquire().await;
            }
            self.inner.handle(Readable::from(copy), reply).await
        })
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
        self.inner.reset();
    }
}

fn connect(server: Arc<dyn Serve>) -> FrontEnd {
    FrontEnd::connect_to(|socket| serve_filesystem(socket, server, 1).unwrap())
}

fn running(server: Arc<dyn Serve>) -> FrontEnd {
    connect(server).set_up()
}

fn request(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + body.len()).unwrap();
    let mut bytes = [length, opcode].map(u32::to_le_bytes).concat();
    bytes.extend(unique.to_le_bytes());
    bytes.extend(node.to_le_bytes());
    bytes.resize(40, 0);
    bytes.extend(body);
    bytes
}

fn init() -> Vec<u8> {
    let mut body = [7u32, 37, 128 << 10, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat();
    body.resize(64, 0);
    request(INIT, 1, 0, &body)
}

impl FrontEnd {
    /// Puts a request, and room for a reply where `room` is more than 0, at a place of its own.
    fn put_request(&self, ring: u32, slot: u16, bytes: &[u8], room: u32) {
        let at = REQUESTS + u64::from(slot) * PLACE;
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
        let reply = REPLIES + u64::from(slot) * PLACE;
        self.memory.write_slice(&[0xee; 64], GuestAddress(reply)).unwrap();
        // In two pieces, as Linux does.
        let rest = u32::try_from(bytes.len() - 40).unwrap();
        let mut chain = vec![(at, 40, NEXT)];
        chain.extend((rest > 0).then_some((at + 40, rest, NEXT)));
        chain.extend((room > 0).then_some((reply, room, WRITE)));
        let last = chain.len() - 1;
        chain[last].2 &= !NEXT;
        self.put_chain(ring, slot * 3, &chain);
    }

    /// Error number and unique of a reply.
    fn reply(&self, slot: u16) -> (i32, u64) {
        let at = REPLIES + u64::from(slot) * PLACE;
        let error: i32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        (error, self.memory.read_obj(GuestAddress(at + 8)).unwrap())
    }

    /// The first request, which every other one needs before it.
    fn begin(&self, base: u16) {
        self.put_request(1, 0, &init(), 4096);
        self.submit(1, &[0]);
        self.wait_used(1, base + 1);
        assert_eq!(self.reply(0), (0, 1));
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what} did not come about");
}

#[test]
fn there_is_a_queue_of_high_priority_and_the_configuration_is_the_front_end_s() {
    let front_end = connect(Gate::new());
    assert_eq!(front_end.socket.ask_u64(GET_QUEUE_NUM), 2);
    assert_eq!(front_end.socket.ask_u64(GET_FEATURES) & 0xff_ffff, 0);
    assert_eq!(front_end.socket.ask_u64(GET_PROTOCOL_FEATURES), PROTOCOL_FEATURES & !CONFIG);
    front_end.server.stop().unwrap();
}

#[test]
fn queues_that_cannot_be_are_refused() {
    for queues in [0, 17] {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let refused = serve_filesystem(theirs, Gate::new(), queues);
        assert!(matches!(refused, Err(DeviceError::Queues(asked)) if asked == queues));
    }
}

#[test]
fn requests_are_answered_and_forgets_are_not() {
    let gate = Gate::new();
    let front_end = running(gate.clone());
    front_end.begin(0);
    front_end.put_request(1, 1, &request(LOOKUP, 7, ROOT, b"file\0"), 160);
    front_end.put_request(1, 2, &request(LOOKUP, 8, ROOT, b"absent\0"), 160);
    front_end.submit(1, &[3, 6]);
    front_end.wait_used(1, 3);
    assert_eq!(front_end.reply(1), (0, 7));
    assert_eq!(front_end.used_entry(1, 1), (3, 16 + 128));
    assert_eq!(front_end.reply(2).1, 8);
    assert_eq!(gate.inodes(), 2);
    let node: u64 = front_end.memory.read_obj(GuestAddress(REPLIES + PLACE + 16)).unwrap();
    front_end.put_request(0, 3, &request(FORGET, 0, node, &1u64.to_le_bytes()), 0);
    front_end.submit(0, &[9]);
    front_end.wait_used(0, 1);
    assert_eq!(front_end.used_entry(0, 0), (9, 0));
    assert_eq!(gate.inodes(), 1);
    front_end.server.stop().unwrap();
}

#[test]
fn a_request_that_waits_delays_neither_others_nor_the_stop_of_its_ring() {
    let gate = Gate::new();
    let front_end = running(gate.clone());
    front_end.begin(0);
    front_end.put_request(1, 1, &request(WAIT, 7, ROOT, &[]), 160);
    front_end.submit(1, &[3]);
    for round in 0..20 {
        front_end.put_request(1, 2, &request(LOOKUP, 8, ROOT, b"file\0"), 160);
        front_end.submit(1, &[6]);
        front_end.wait_used(1, round + 2);
    }
    // Two pauses.
    for _ in 0..2 {
        assert_eq!(front_end.stop(0), 0);
        assert_eq!(front_end.stop(1), 22);
        assert_eq!(front_end.used(1), 21);
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 1);
        assert!(front_end.start(0, 0));
        assert!(front_end.start(1, 22));
    }
    // A stopped ring is left alone, though the answer is there.
    front_end.stop(1);
    gate.open.add_permits(1);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(front_end.used(1), 21);
    assert!(front_end.start(1, 22));
    front_end.wait_used(1, 22);
    assert_eq!(front_end.used_entry(1, 21), (3, 16));
    assert_eq!(gate.resets.load(Ordering::SeqCst), 0);
    front_end.server.stop().unwrap();
}

#[test]
fn a_driver_that_begins_anew_gets_no_answer_to_what_was_before() {
    let gate = Gate::new();
    let front_end = running(gate.clone());
    for round in 1..4 {
        front_end.begin(0);
        front_end.put_request(1, 1, &request(WAIT, 7, ROOT, &[]), 160);
        front_end.put_request(1, 2, &request(LOOKUP, 8, ROOT, b"file\0"), 160);
        front_end.submit(1, &[3, 6]);
        front_end.wait_used(1, 2);
        assert_eq!(gate.inodes(), 2);
        for index in 0..2 {
            front_end.stop(index);
        }
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 1);
        // Empty rings.
        front_end.memory.write_slice(&[0; 0x8000], GuestAddress(0)).unwrap();
        assert!(front_end.start(0, 0) && front_end.start(1, 0));
        assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
        assert_eq!(gate.resets.load(Ordering::SeqCst), round);
        assert_eq!(gate.inodes(), 1);
    }
    gate.open.add_permits(10);
    front_end.begin(0);
    front_end.server.stop().unwrap();
}

#[test]
fn a_reset_of_the_device_resets_the_server() {
    let gate = Gate::new();
    let front_end = running(gate.clone());
    front_end.begin(0);
    front_end.put_request(1, 1, &request(WAIT, 7, ROOT, &[]), 160);
    front_end.submit(1, &[3]);
    eventually("waiting", || gate.waiting.load(Ordering::SeqCst) == 1);
    assert!(front_end.socket.tell(RESET_OWNER, &[], &[]));
    eventually("the reset", || gate.resets.load(Ordering::SeqCst) == 1);
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
    front_end.server.stop().unwrap();
}

#[test]
fn hanging_up_ends_the_device_whatever_waits() {
    let gate = Gate::new();
    let front_end = running(gate.clone());
    let heads: Vec<u16> = (0..20).map(|slot| slot * 3).collect();
    for slot in 0..20 {
        front_end.put_request(1, slot, &request(WAIT, 7, ROOT, &[]), 160);
    }
    front_end.submit(1, &heads);
    eventually("waiting", || gate.waiting.load(Ordering::SeqCst) == 20);
    let FrontEnd { socket, server, .. } = front_end;
    drop(socket);
    server.stop().unwrap();
    assert_eq!(gate.waiting.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&gate), 1);
}

#[test]
fn chains_that_lead_out_of_the_memory_or_nowhere_break_the_ring() {
    let end = MEMORY as u64;
    let far = u64::MAX - 100;
    let bad: &[Pieces<'_>] = &[
        &[(end - 8, 16, WRITE)],
        &[(far, 200, 0)],
        &[(DATA, 40, NEXT), (end, 1, WRITE)],
        &[(DATA, 0, 0)],
        &[(DATA, 40, NEXT), (DATA, 0, WRITE)],
        &[(DATA, u32::MAX, 0)],
        // Readable behind writable.
        &[(DATA, 40, NEXT | WRITE), (DATA, 40, 0)],
        // An indirect table that is none.
        &[(DATA, 15, 4)],
        &[(DATA, 0, 4)],
        &[(end, 32, 4)],
    ];
    for chain in bad {
        let front_end = running(Gate::new());
        front_end.put_chain(1, 0, chain);
        front_end.submit(1, &[0]);
        assert!(FrontEnd::wait(&front_end.rings[1].error), "{chain:x?}");
        assert_eq!(front_end.used(1), 0, "{chain:x?}");
        // The other ring goes on.
        front_end.put_request(0, 5, &init(), 4096);
        front_end.submit(0, &[15]);
        front_end.wait_used(0, 1);
        assert_eq!(front_end.reply(5), (0, 1));
        front_end.server.stop().unwrap();
    }
    // A loop.
    let front_end = running(Gate::new());
    front_end.put_descriptor(1, 0, Descriptor::new(DATA, 16, NEXT, 1));
    front_end.put_descriptor(1, 1, Descriptor::new(DATA, 16, NEXT, 0));
    front_end.submit(1, &[0]);
    assert!(FrontEnd::wait(&front_end.rings[1].error));
    front_end.server.stop().unwrap();
}

#[test]
fn requests_without_sense_or_without_room_come_back_unanswered_or_refused() {
    let gate = Gate::new();
    let front_end = running(gate.clone());
    front_end.begin(0);
    let lookup = request(LOOKUP, 7, ROOT, b"file\0");
    let cases: &[(Pieces<'_>, u32)] = &[
        // Nothing to read.
        (&[(REPLIES, 160, WRITE)], 0),
        // Less than a header.
        (&[(REQUESTS, 39, NEXT), (REPLIES, 160, WRITE)], 0),
        // No reply, and too little room for one, and for its body.
        (&[(REQUESTS, 45, 0)], 0),
        (&[(REQUESTS, 45, NEXT), (REPLIES, 15, WRITE)], 0),
        (&[(REQUESTS, 45, NEXT), (REPLIES, 16, WRITE)], 16),
        // Another length than it says.
        (&[(REQUESTS, 44, NEXT), (REPLIES, 160, WRITE)], 16),
        // The reply over the request.
        (&[(REQUESTS, 45, NEXT), (REQUESTS, 160, WRITE)], 144),
    ];
    for (round, (chain, written)) in (1..).zip(cases) {
        front_end.memory.write_slice(&lookup, GuestAddress(REQUESTS)).unwrap();
        front_end.put_chain(1, 10, chain);
        front_end.submit(1, &[10]);
        front_end.wait_used(1, round + 1);
        assert_eq!(front_end.used_entry(1, u64::from(round)), (10, *written), "{chain:x?}");
    }
    // What could not be delivered was not done: only the last was.
    assert_eq!(gate.inodes(), 2);
    front_end.server.stop().unwrap();
}

#[test]
fn a_reply_over_the_rings_does_no_harm() {
    let front_end = running(Gate::new());
    front_end.begin(0);
    front_end.memory.write_slice(&request(LOOKUP, 7, ROOT, b"file\0"), GuestAddress(DATA)).unwrap();
    front_end.put_chain(1, 10, &[(DATA, 45, NEXT), (0x4000, 0x3000, WRITE)]);
    front_end.submit(1, &[10, 10, 10]);
    std::thread::sleep(Duration::from_millis(20));
    front_end.server.stop().unwrap();
}

/// A descriptor: mostly in memory, often with a successor.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let address = prop_oneof![6 => 0..MEMORY as u64, 1 => any::<u64>()];
    let length = prop_oneof![6 => 0..5_000u32, 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0..8u16, 1 => any::<u16>()];
    (address, length, flags, 0..RING + 2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_descriptors_end_in_an_orderly_way(
        table in prop::collection::vec(descriptor(), RING as usize),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        heads in prop::collection::vec(0..RING + 1, 1..40),
        begun in any::<bool>(),
    ) {
        let front_end = running(Gate::new());
        if begun {
            front_end.begin(0);
        }
        for (place, (address, length, flags, next)) in (0..).zip(table) {
            front_end.put_descriptor(1, place, Descriptor::new(address, length, flags, next));
        }
        front_end.memory.write_slice(&bytes, GuestAddress(DATA)).unwrap();
        front_end.submit(1, &heads);
        prop_assert!(front_end.stop(1) <= u32::from(u16::MAX));
        let ended = front_end.server.stop();
        prop_assert!(ended.is_ok(), "{ended:?}");
    }
}
