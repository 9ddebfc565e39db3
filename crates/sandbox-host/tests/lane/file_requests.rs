//! What a guest's kernel sends to a mount, byte by byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vfs::fuse::{Opcode, Serve};
use vfs::{Readable, Writable};

use crate::client::{Helper, soon};

pub(crate) const ROOT: u64 = 1;
pub(crate) const EIO: i32 = 5;
pub(crate) const EROFS: i32 = 30;

/// The guest's side of one mount.
#[derive(Clone)]
pub(crate) struct Kernel {
    server: Arc<dyn Serve>,
    unique: Arc<AtomicU64>,
}

impl Kernel {
    /// Of the helper's mount of this number, after INIT.
    pub(crate) async fn of(helper: &Helper, mount: usize) -> Self {
        let kernel = Self { server: helper.engine.served(mount), unique: Arc::default() };
        let mut init = u32s(&[7, 37, 128 * 1024, u32::MAX, u32::MAX]);
        init.resize(64, 0);
        kernel.call(Opcode::Init, 0, &init).await.unwrap();
        kernel
    }

    /// The reply's body, or the error number.
    pub(crate) async fn call(
        &self,
        opcode: Opcode,
        node: u64,
        body: &[u8],
    ) -> Result<Vec<u8>, i32> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let length = u32::try_from(40 + body.len()).unwrap();
        let mut request = u32s(&[length, opcode as u32]);
        request.extend(unique.to_le_bytes());
        request.extend(node.to_le_bytes());
        request.extend(u32s(&[0, 0, 1, 0]));
        request.extend(body);
        let mut room = Writable::with_capacity(16 + 1024 * 1024);
        let length = soon(self.server.handle(Readable::from(request), &mut room)).await;
        let reply = room.to_vec(length);
        match i32::from_le_bytes(reply[4..8].try_into().unwrap()) {
            0 => Ok(reply[16..].to_vec()),
            error => Err(-error),
        }
    }

    /// The node of a name.
    pub(crate) async fn lookup(&self, parent: u64, name: &str) -> Result<u64, i32> {
        self.call(Opcode::Lookup, parent, &z(name)).await.map(|entry| u64_at(&entry, 0))
    }

    pub(crate) async fn open(&self, node: u64, flags: u32) -> Result<u64, i32> {
        self.call(Opcode::Open, node, &u32s(&[flags, 0])).await.map(|reply| u64_at(&reply, 0))
    }

    pub(crate) async fn read(&self, node: u64, handle: u64, size: u32) -> Result<Vec<u8>, i32> {
        self.call(Opcode::Read, node, &io(handle, size, &[])).await
    }

    pub(crate) async fn write(&self, node: u64, handle: u64, data: &[u8]) -> Result<u32, i32> {
        let body = io(handle, u32::try_from(data.len()).unwrap(), data);
        let reply = self.call(Opcode::Write, node, &body).await?;
        Ok(u32::from_le_bytes(reply[..4].try_into().unwrap()))
    }

    /// Makes a file and writes into it.
    pub(crate) async fn put(&self, name: &str, data: &[u8]) -> Result<(), i32> {
        let body = [u32s(&[0o2 | 0o100, 0o644, 0, 0]), z(name)].concat();
        let reply = self.call(Opcode::Create, ROOT, &body).await?;
        self.write(u64_at(&reply, 0), u64_at(&reply, 128), data).await.map(drop)
    }

    /// The names of a directory, without dots, in one pass.
    pub(crate) async fn names(&self, node: u64) -> Result<Vec<String>, i32> {
        let handle = u64_at(&self.call(Opcode::OpenDir, node, &[0; 8]).await?, 0);
        let (mut names, mut offset) = (Vec::new(), 0_u64);
        loop {
            let body =
                [&handle.to_le_bytes()[..], &offset.to_le_bytes(), &u32s(&[4096, 0, 0, 0, 0, 0])];
            let reply = self.call(Opcode::ReadDir, node, &body.concat()).await?;
            if reply.is_empty() {
                names.retain(|name| name != "." && name != "..");
                return Ok(names);
            }
            let mut at = 0;
            while at < reply.len() {
                offset = u64_at(&reply, at + 8);
                let length =
                    u32::from_le_bytes(reply[at + 16..at + 20].try_into().unwrap()) as usize;
                names.push(String::from_utf8(reply[at + 24..at + 24 + length].to_vec()).unwrap());
                at = (at + 24 + length).next_multiple_of(8);
            }
        }
    }

    /// SETATTR of the modification time.
    pub(crate) async fn set_modified(
        &self,
        node: u64,
        seconds: i64,
        nanos: u32,
    ) -> Result<(), i32> {
        const FATTR_MTIME: u32 = 1 << 5;
        let mut body = u32s(&[FATTR_MTIME, 0]);
        body.resize(40, 0);
        body.extend(seconds.to_le_bytes());
        body.resize(60, 0);
        body.extend(nanos.to_le_bytes());
        body.resize(88, 0);
        self.call(Opcode::SetAttr, node, &body).await.map(drop)
    }
}

fn io(handle: u64, size: u32, data: &[u8]) -> Vec<u8> {
    [&handle.to_le_bytes()[..], &[0; 8], &u32s(&[size, 0, 0, 0, 0, 0]), data].concat()
}

fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn z(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
