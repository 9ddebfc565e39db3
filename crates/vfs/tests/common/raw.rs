//! A guest that writes its requests byte by byte, as a hostile kernel may.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::atomic::{AtomicU64, Ordering};

use vfs::fuse::{Limits, Opcode, Server};
use vfs::{FileSystem, Observer, Readable, Writable};

pub struct Raw<F: FileSystem> {
    pub server: Server<F>,
    unique: AtomicU64,
    pub uid: u32,
}

pub const ROOT: u64 = 1;

impl<F: FileSystem> Raw<F> {
    /// After INIT.
    pub async fn new(fs: F) -> Self {
        Self::with(fs, Limits::default(), Observer::log()).await
    }

    pub async fn with(fs: F, limits: Limits, observer: Observer) -> Self {
        let raw = Self::without_init(fs, limits, observer);
        raw.call(Opcode::Init, 0, &init()).await.unwrap();
        raw
    }

    pub fn without_init(fs: F, limits: Limits, observer: Observer) -> Self {
        Self { server: Server::new(fs, limits, observer), unique: AtomicU64::new(1), uid: 0 }
    }

    /// The reply's body, or the error number.
    pub async fn call(&self, opcode: Opcode, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        self.call_number(opcode as u32, node, body).await
    }

    pub async fn call_number(&self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let request = request(opcode, unique, node, self.uid, body);
        let reply = self.bytes(request).await;
        assert!(reply.len() >= 16, "no reply to {opcode}");
        assert_eq!(u64_at(&reply, 8), unique);
        match i32::from_le_bytes(reply[4..8].try_into().unwrap()) {
            0 => Ok(reply[16..].to_vec()),
            error => Err(-error),
        }
    }

    pub async fn bytes(&self, request: Vec<u8>) -> Vec<u8> {
        let mut room = Writable::with_capacity(16 + 1024 * 1024);
        let length = self.server.handle(Readable::from(request), &mut room).await;
        room.to_vec(length)
    }

    pub async fn lookup(&self, parent: u64, name: &[u8]) -> Result<u64, i32> {
        self.call(Opcode::Lookup, parent, &z(name)).await.map(|entry| u64_at(&entry, 0))
    }

    /// Follows names from the root; lookups stay counted.
    pub async fn walk(&self, path: &str) -> Result<u64, i32> {
        let mut at = ROOT;
        for name in path.split('/') {
            at = self.lookup(at, name.as_bytes()).await?;
        }
        Ok(at)
    }

    pub async fn forget(&self, node: u64, count: u64) {
        let body = count.to_le_bytes();
        let bytes = self.bytes(request(Opcode::Forget as u32, 0, node, 0, &body)).await;
        assert!(bytes.is_empty());
    }

    pub async fn create(&self, parent: u64, name: &[u8]) -> Result<(u64, u64), i32> {
        let body = [&u32s(&[0o2 | 0o100, 0o644, 0, 0])[..], &z(name)].concat();
        let reply = self.call(Opcode::Create, parent, &body).await?;
        Ok((u64_at(&reply, 0), u64_at(&reply, 128)))
    }

    pub async fn mkdir(&self, parent: u64, name: &[u8]) -> Result<u64, i32> {
        let body = [&u32s(&[0o755, 0])[..], &z(name)].concat();
        self.call(Opcode::MkDir, parent, &body).await.map(|entry| u64_at(&entry, 0))
    }

    pub async fn rename(
        &self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: u32,
    ) -> Result<(), i32> {
        let head = [&to.0.to_le_bytes()[..], &u32s(&[flags, 0])].concat();
        let body = [head, z(from.1), z(to.1)].concat();
        self.call(Opcode::Rename2, from.0, &body).await.map(drop)
    }

    pub async fn link(&self, node: u64, parent: u64, name: &[u8]) -> Result<u64, i32> {
        let body = [&node.to_le_bytes()[..], &z(name)].concat();
        self.call(Opcode::Link, parent, &body).await.map(|entry| u64_at(&entry, 0))
    }

    pub async fn open(&self, node: u64, flags: u32) -> Result<u64, i32> {
        let reply = self.call(Opcode::Open, node, &u32s(&[flags, 0])).await?;
        Ok(u64_at(&reply, 0))
    }

    pub async fn read(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, i32> {
        let body =
            [&handle.to_le_bytes()[..], &offset.to_le_bytes(), &u32s(&[size, 0, 0, 0, 0, 0])];
        self.call(Opcode::Read, node, &body.concat()).await
    }

    pub async fn write(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<u32, i32> {
        let size = u32::try_from(data.len()).unwrap();
        let body =
            [&handle.to_le_bytes()[..], &offset.to_le_bytes(), &u32s(&[size, 0, 0, 0, 0, 0]), data];
        let reply = self.call(Opcode::Write, node, &body.concat()).await?;
        Ok(u32::from_le_bytes(reply[..4].try_into().unwrap()))
    }

    pub async fn release(&self, node: u64, handle: u64) -> Result<(), i32> {
        let body = [&handle.to_le_bytes()[..], &[0; 16]].concat();
        self.call(Opcode::Release, node, &body).await.map(drop)
    }

    /// The names of a directory, in one pass.
    pub async fn names(&self, node: u64) -> Result<Vec<Vec<u8>>, i32> {
        let handle = u64_at(&self.call(Opcode::OpenDir, node, &[0; 8]).await?, 0);
        let (mut names, mut offset) = (Vec::new(), 0_u64);
        loop {
            let body =
                [&handle.to_le_bytes()[..], &offset.to_le_bytes(), &u32s(&[512, 0, 0, 0, 0, 0])];
            let reply = self.call(Opcode::ReadDir, node, &body.concat()).await?;
            if reply.is_empty() {
                break;
            }
            let mut at = 0;
            while at < reply.len() {
                offset = u64_at(&reply, at + 8);
                let length =
                    u32::from_le_bytes(reply[at + 16..at + 20].try_into().unwrap()) as usize;
                names.push(reply[at + 24..at + 24 + length].to_vec());
                at = (at + 24 + length).next_multiple_of(8);
            }
        }
        let body = [&handle.to_le_bytes()[..], &[0; 16]].concat();
        self.call(Opcode::ReleaseDir, node, &body).await?;
        names.retain(|name| name != b"." && name != b"..");
        Ok(names)
    }

    /// SETLK or SETLKW.
    pub async fn lock(
        &self,
        (node, handle): (u64, u64),
        owner: u64,
        (kind, flock): (u32, bool),
        range: (u64, u64),
        wait: bool,
    ) -> Result<(), i32> {
        let opcode = if wait { Opcode::SetLkW } else { Opcode::SetLk };
        let body = [
            &handle.to_le_bytes()[..],
            &owner.to_le_bytes(),
            &range.0.to_le_bytes(),
            &range.1.to_le_bytes(),
            &u32s(&[kind, 1, u32::from(flock), 0]),
        ];
        self.call(opcode, node, &body.concat()).await.map(drop)
    }

    pub async fn flush(&self, node: u64, handle: u64, owner: u64) -> Result<(), i32> {
        let body = [&handle.to_le_bytes()[..], &[0; 8], &owner.to_le_bytes()].concat();
        self.call(Opcode::Flush, node, &body).await.map(drop)
    }
}

pub fn request(opcode: u32, unique: u64, node: u64, uid: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + body.len()).unwrap();
    let mut bytes = u32s(&[length, opcode]);
    bytes.extend_from_slice(&unique.to_le_bytes());
    bytes.extend_from_slice(&node.to_le_bytes());
    bytes.extend_from_slice(&u32s(&[uid, uid, 1, 0]));
    bytes.extend_from_slice(body);
    bytes
}

pub fn init() -> Vec<u8> {
    let mut body = u32s(&[7, 37, 128 * 1024, u32::MAX, u32::MAX]);
    body.resize(64, 0);
    body
}

pub fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// With a NUL behind it.
pub fn z(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
