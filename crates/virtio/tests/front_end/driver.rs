//! A front end with a driver: memory, rings, requests.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blockcow::{Disk, ImageFormat};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};
use virtio::{BlockOptions, DeviceServer};
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

use crate::socket::*;

pub(crate) const MEMORY: usize = 8 << 20;
/// What the front end calls guest address 0.
pub(crate) const USER: u64 = 0x7f00_0000_0000;
pub(crate) const RING: u16 = 64;
/// Where requests are put, each in a page of its own, and data after them.
const HEADERS: u64 = 1 << 20;
pub(crate) const DATA: u64 = 2 << 20;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

pub(crate) struct FrontEnd {
    pub(crate) socket: Socket,
    pub(crate) server: DeviceServer,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) file: File,
    pub(crate) rings: Vec<Notifications>,
}

/// Where the parts of a ring lie.
struct Rings {
    descriptors: u64,
    available: u64,
    used: u64,
}

impl Rings {
    fn of(index: u32) -> Self {
        let start = u64::from(index) * 0x4000;
        Self { descriptors: start, available: start + 0x1000, used: start + 0x2000 }
    }
}

pub(crate) struct Notifications {
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    pub(crate) error: EventFd,
}

/// Memory that can be shared.
pub(crate) fn memfd(size: u64, seals: SealFlag) -> File {
    let file = File::from(memfd_create("guest", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.set_len(size).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

/// A raw disk whose bytes tell their sector.
pub(crate) fn disk(sectors: u64) -> Arc<Disk> {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..sectors {
        std::io::Write::write_all(&mut file, &sector_content(sector)).unwrap();
    }
    Arc::new(Disk::open(file, ImageFormat::Raw).unwrap())
}

pub(crate) fn sector_content(sector: u64) -> Vec<u8> {
    sector.wrapping_mul(0x9e37_79b9).to_le_bytes().repeat(64)
}

impl FrontEnd {
    /// Connected, features agreed on, nothing shared.
    pub(crate) fn connect(disk: Arc<Disk>) -> Self {
        Self::connect_to(|socket| {
            let options = BlockOptions { serial: "serial".to_owned(), queues: 2 };
            virtio::serve_block(socket, disk, options).unwrap()
        })
    }

    /// The same with any device of two queues.
    pub(crate) fn connect_to(serve: impl FnOnce(UnixStream) -> DeviceServer) -> Self {
        let (socket, theirs) = Socket::pair();
        let server = serve(theirs);
        let file = memfd(MEMORY as u64, SealFlag::F_SEAL_SHRINK);
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let ranges = [(GuestAddress(0), MEMORY, Some(offset))];
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        assert!(socket.ask_u64(GET_FEATURES) & 1 << 30 != 0);
        let features = socket.ask_u64(GET_PROTOCOL_FEATURES);
        assert_eq!(features | CONFIG, PROTOCOL_FEATURES);
        assert!(socket.tell(SET_PROTOCOL_FEATURES, &features.to_ne_bytes(), &[]));
        let eventfd = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let rings = (0..2)
            .map(|_| Notifications { kick: eventfd(), call: eventfd(), error: eventfd() })
            .collect();
        Self { socket, server, memory, file, rings }
    }

    /// With memory and both rings running.
    pub(crate) fn running(disk: Arc<Disk>) -> Self {
        Self::connect(disk).set_up()
    }

    pub(crate) fn set_up(self) -> Self {
        assert!(self.share_memory());
        for index in 0..2 {
            assert!(self.start(index, 0));
        }
        self
    }

    pub(crate) fn share_memory(&self) -> bool {
        let features = (1u64 << 32 | 1 << 30 | 1 << 29 | 1 << 28).to_ne_bytes();
        self.socket.tell(SET_OWNER, &[], &[])
            && self.socket.tell(SET_FEATURES, &features, &[])
            && self.socket.tell(
                SET_MEM_TABLE,
                &table(&[(0, MEMORY as u64, USER, 0)]),
                &[self.file.as_fd()],
            )
    }

    /// Writes a descriptor of a ring.
    pub(crate) fn put_descriptor(&self, index: u32, place: u16, descriptor: Descriptor) {
        let address = Rings::of(index).descriptors + u64::from(place) * 16;
        self.memory.write_obj(RawDescriptor::from(descriptor), GuestAddress(address)).unwrap();
    }

    /// Says how far the available ring goes.
    pub(crate) fn set_available(&self, index: u32, next: u16) {
        let address = GuestAddress(Rings::of(index).available + 2);
        self.memory.store(next.to_le(), address, Ordering::Release).unwrap();
    }

    pub(crate) fn start(&self, index: u32, base: u32) -> bool {
        let rings = Rings::of(index);
        let addresses = [rings.descriptors, rings.used, rings.available];
        self.start_at(index, base, addresses.map(|address| address + USER))
    }

    /// Descriptors, used ring, available ring, as the front end's addresses.
    pub(crate) fn start_at(&self, index: u32, base: u32, addresses: [u64; 3]) -> bool {
        let files = &self.rings[index as usize];
        let file = u64::from(index).to_ne_bytes();
        let mut layout = pair(index, 0);
        addresses.iter().chain(&[0]).for_each(|address| layout.extend(address.to_ne_bytes()));
        self.socket.tell(SET_VRING_NUM, &pair(index, u32::from(RING)), &[])
            && self.socket.tell(SET_VRING_BASE, &pair(index, base), &[])
            && self.socket.tell(SET_VRING_ADDR, &layout, &[])
            && self.socket.tell(SET_VRING_CALL, &file, &[files.call.as_fd()])
            && self.socket.tell(SET_VRING_ERR, &file, &[files.error.as_fd()])
            && self.socket.tell(SET_VRING_KICK, &file, &[files.kick.as_fd()])
            && self.socket.tell(SET_VRING_ENABLE, &pair(index, 1), &[])
    }

    /// Stops a ring; where it would go on.
    pub(crate) fn stop(&self, index: u32) -> u32 {
        let answer = self.socket.ask(GET_VRING_BASE, &pair(index, 0)).unwrap();
        u32::from_ne_bytes(answer[4..8].try_into().unwrap())
    }

    /// Puts a descriptor chain of a ring in place, from this descriptor on, without telling.
    pub(crate) fn put_chain(&self, index: u32, head: u16, chain: &[(u64, u32, u16)]) {
        for (position, (address, length, flags)) in (head..).zip(chain) {
            let descriptor = Descriptor::new(*address, *length, *flags, position + 1);
            self.put_descriptor(index, position, descriptor);
        }
    }

    /// Puts a read of `sectors` in three descriptors; the data goes to a place of its own.
    pub(crate) fn put_read(&self, index: u32, slot: u16, sector: u64, sectors: u32) -> u64 {
        let header = HEADERS + u64::from(slot) * 4096;
        let data = DATA + u64::from(slot) * (64 << 10);
        self.memory.write_obj(0u64, GuestAddress(header)).unwrap();
        self.memory.write_obj(sector.to_le(), GuestAddress(header + 8)).unwrap();
        self.memory.write_obj(0xffu8, GuestAddress(header + 16)).unwrap();
        let chain =
            [(header, 16, NEXT), (data, sectors * 512, NEXT | WRITE), (header + 16, 1, WRITE)];
        self.put_chain(index, slot * 3, &chain);
        data
    }

    pub(crate) fn status(&self, slot: u16) -> u8 {
        self.memory.read_obj(GuestAddress(HEADERS + u64::from(slot) * 4096 + 16)).unwrap()
    }

    /// Makes chains available and notifies.
    pub(crate) fn submit(&self, index: u32, heads: &[u16]) {
        let available = Rings::of(index).available;
        let mut next = u16::from_le(self.memory.read_obj(GuestAddress(available + 2)).unwrap());
        for head in heads {
            let place = GuestAddress(available + 4 + u64::from(next % RING) * 2);
            self.memory.write_obj(head.to_le(), place).unwrap();
            next = next.wrapping_add(1);
        }
        self.set_available(index, next);
        self.rings[index as usize].kick.write(1).unwrap();
    }

    pub(crate) fn used(&self, index: u32) -> u16 {
        let address = GuestAddress(Rings::of(index).used + 2);
        u16::from_le(self.memory.load(address, Ordering::Acquire).unwrap())
    }

    /// An entry of the used ring: the head, and how many bytes were written.
    pub(crate) fn used_entry(&self, index: u32, place: u64) -> (u32, u32) {
        let entry = Rings::of(index).used + 4 + place * 8;
        let [head, length] =
            [entry, entry + 4].map(|at| self.memory.read_obj(GuestAddress(at)).unwrap());
        (u32::from_le(head), u32::from_le(length))
    }

    /// Waits until this many requests have been given back in all.
    pub(crate) fn wait_used(&self, index: u32, count: u16) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.used(index) != count {
            assert!(Instant::now() < end, "{} of {count} came back", self.used(index));
            // The event index stays 0, so not each one is told.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a notification.
    pub(crate) fn wait(event: &EventFd) -> bool {
        let mut ready = [PollFd::new(event.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::from(60_000u16)).unwrap() == 1
    }
}

/// Two numbers.
pub(crate) fn pair(index: u32, value: u32) -> Vec<u8> {
    [index.to_ne_bytes(), value.to_ne_bytes()].concat()
}

/// A memory table: guest address, size, the front end's address, offset in the file.
pub(crate) fn table(regions: &[(u64, u64, u64, u64)]) -> Vec<u8> {
    let mut table = pair(u32::try_from(regions.len()).unwrap(), 0);
    for (guest, size, user, offset) in regions {
        [guest, size, user, offset].iter().for_each(|field| table.extend(field.to_ne_bytes()));
    }
    table
}
