//! A driver of virtio-fs (virtio 1.2, 5.11) made of the guest's chains, and as much of FUSE
//! (include/uapi/linux/fuse.h of Linux, 7.38) as its tests say.

use std::path::Path;
use std::sync::Arc;

use engine::FilesystemSpec;
use payload_guest::{Chain, Guest, Taken};
use vfs::Observer;
use vfs::fuse::{Limits, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};

/// Type of the device.
pub(crate) const FILESYSTEM: u32 = 26;
/// Queues: of high priority, and of requests.
pub(crate) const PRIORITY: usize = 0;
pub(crate) const REQUESTS: usize = 1;
/// The root's number.
pub(crate) const ROOT: u64 = 1;

pub(crate) const LOOKUP: u32 = 1;
pub(crate) const FORGET: u32 = 2;
pub(crate) const GETATTR: u32 = 3;
pub(crate) const OPEN: u32 = 14;
pub(crate) const READ: u32 = 15;
pub(crate) const WRITE: u32 = 16;
pub(crate) const RELEASE: u32 = 18;
pub(crate) const INIT: u32 = 26;
pub(crate) const CREATE: u32 = 35;
pub(crate) const MKDIR: u32 = 9;

/// One device that the guest drives.
#[derive(Debug, Clone)]
pub(crate) struct Filesystem {
    pub(crate) device: usize,
}

/// What the server says.
#[derive(Debug)]
pub(crate) struct Reply {
    /// An error number, 0 for none.
    pub(crate) error: i32,
    /// Bytes after the header.
    pub(crate) length: usize,
    /// The first of these.
    pub(crate) body: Vec<u8>,
    /// The checksum of the room there was for them.
    pub(crate) sum: u64,
}

impl Reply {
    /// A number of 8 bytes.
    pub(crate) fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.body[at..at + 8].try_into().unwrap())
    }

    /// A number of 4 bytes.
    pub(crate) fn half(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.body[at..at + 4].try_into().unwrap())
    }
}

/// Numbers of a request's body.
pub(crate) fn halves(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The beginning of a request that has `length` bytes in all.
pub(crate) fn header(length: usize, opcode: u32, node: u64) -> Vec<u8> {
    let length = u32::try_from(length).unwrap();
    let unique = 7_000_000_007u64;
    let begin = [halves(&[length, opcode]), unique.to_le_bytes().to_vec()].concat();
    [begin, node.to_le_bytes().to_vec(), halves(&[0, 0, 1, 0])].concat()
}

/// A request with a body, and room for the reply's header and as many bytes after it.
pub(crate) fn request(opcode: u32, node: u64, body: &[u8], room: usize) -> Chain {
    let chain = Chain::out(&[header(40 + body.len(), opcode, node), body.to_vec()].concat());
    let chain = chain.and_input(16);
    if room > 0 { chain.and_input(room) } else { chain }
}

pub(crate) fn reply(taken: &Taken) -> Reply {
    let head = &taken.inputs[0].bytes;
    let length = u32::from_le_bytes(head[..4].try_into().unwrap());
    assert_eq!(length, taken.length, "header and ring agree");
    let error = -i32::from_le_bytes(head[4..8].try_into().unwrap());
    assert_eq!(head[8..16], 7_000_000_007u64.to_le_bytes());
    let length = usize::try_from(length).unwrap() - 16;
    let Some(rest) = taken.inputs.get(1) else {
        return Reply { error, length, body: Vec::new(), sum: 0 };
    };
    let body = rest.bytes[..length.min(rest.bytes.len())].to_vec();
    Reply { error, length, body, sum: rest.sum }
}

impl Filesystem {
    /// The guest's filesystems, in their order, ready and each begun with.
    pub(crate) async fn all(guest: &mut Guest) -> Vec<Self> {
        let mut found = Vec::new();
        for device in guest.devices_of(FILESYSTEM).await.unwrap() {
            guest.set_up(device.number, u64::MAX).await.unwrap();
            let filesystem = Self { device: device.number };
            filesystem.init(guest).await;
            found.push(filesystem);
        }
        found
    }

    pub(crate) async fn init(&self, guest: &mut Guest) {
        // BIG_WRITES, MAX_PAGES.
        let flags = 1 << 5 | 1 << 22;
        let body = [halves(&[7, 38, 1 << 20, flags]), vec![0; 48]].concat();
        let reply = self.call(guest, INIT, 0, &body, 64).await;
        assert_eq!((reply.error, reply.length, reply.half(0)), (0, 64, 7));
        assert_eq!(reply.half(12) & flags, flags);
    }

    pub(crate) async fn tag(&self, guest: &mut Guest) -> String {
        let bytes = guest.bytes(&format!("config {} 0 36", self.device)).await.unwrap();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    pub(crate) async fn call(
        &self,
        guest: &mut Guest,
        opcode: u32,
        node: u64,
        body: &[u8],
        room: usize,
    ) -> Reply {
        let chain = request(opcode, node, body, room);
        reply(&guest.run(self.device, REQUESTS, &chain).await.unwrap())
    }

    /// The number of a name, or why there is none.
    pub(crate) async fn lookup(
        &self,
        guest: &mut Guest,
        node: u64,
        name: &str,
    ) -> Result<u64, i32> {
        let name = [name.as_bytes(), &[0]].concat();
        let reply = self.call(guest, LOOKUP, node, &name, 128).await;
        if reply.error == 0 { Ok(reply.word(0)) } else { Err(reply.error) }
    }

    /// A handle.
    pub(crate) async fn open(&self, guest: &mut Guest, node: u64, flags: u32) -> u64 {
        let reply = self.call(guest, OPEN, node, &halves(&[flags, 0]), 16).await;
        assert_eq!(reply.error, 0);
        reply.word(0)
    }

    pub(crate) async fn read(
        &self,
        guest: &mut Guest,
        (node, handle): (u64, u64),
        offset: u64,
        length: usize,
    ) -> Reply {
        let body = [
            [handle, offset].map(u64::to_le_bytes).concat(),
            halves(&[u32::try_from(length).unwrap(), 0, 0, 0, 0, 0]),
        ];
        self.call(guest, READ, node, &body.concat(), length).await
    }

    /// Writes a pattern; how much was written.
    pub(crate) async fn write(
        &self,
        guest: &mut Guest,
        (node, handle): (u64, u64),
        offset: u64,
        length: usize,
        seed: u64,
    ) -> usize {
        let body = [
            [handle, offset].map(u64::to_le_bytes).concat(),
            halves(&[u32::try_from(length).unwrap(), 0, 0, 0, 0, 0]),
        ]
        .concat();
        let head = header(40 + body.len() + length, WRITE, node);
        let chain = Chain::out(&[head, body].concat()).and_pattern(length, seed);
        let chain = chain.and_input(16).and_input(8);
        let reply = reply(&guest.run(self.device, REQUESTS, &chain).await.unwrap());
        assert_eq!(reply.error, 0);
        usize::try_from(reply.half(0)).unwrap()
    }

    pub(crate) async fn release(&self, guest: &mut Guest, (node, handle): (u64, u64)) -> i32 {
        let body = [handle.to_le_bytes().to_vec(), vec![0; 16]].concat();
        self.call(guest, RELEASE, node, &body, 0).await.error
    }
}

/// A directory of the host that can be written.
pub(crate) fn directory(tag: &str, path: &Path) -> FilesystemSpec {
    let options = HostDirOptions::new(path, Access::ReadWrite);
    let tree = HostDir::new(options, &Observer::log()).unwrap();
    let server = Arc::new(Server::new(tree, Limits::default(), Observer::log()));
    FilesystemSpec { tag: tag.to_owned(), server }
}
