//! From answers to bytes.

use std::time::Duration;

use super::abi;
use crate::{Attr, Entry, Errno, Lock, LockKind, Opened, StatFs, Time, Writable};

/// The bytes of one reply's body, field after field.
#[derive(Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Zeroes up to a multiple of eight.
    pub(super) fn pad(&mut self) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn attr(&mut self, attr: &Attr) -> &mut Self {
        let seconds = |time: Time| time.seconds.cast_unsigned();
        self.u64(attr.ino).u64(attr.size).u64(attr.blocks);
        self.u64(seconds(attr.accessed)).u64(seconds(attr.modified)).u64(seconds(attr.changed));
        self.u32(attr.accessed.nanos).u32(attr.modified.nanos).u32(attr.changed.nanos);
        self.u32(attr.kind.mode_bits() | (attr.permissions & 0o7777));
        self.u32(attr.nlink).u32(attr.uid).u32(attr.gid).u32(attr.rdev).u32(attr.block_size);
        self.u32(0)
    }

    pub(super) fn entry(&mut self, entry: &Entry) -> &mut Self {
        self.u64(entry.inode.0).u64(0);
        self.u64(entry.entry_ttl.as_secs()).u64(entry.attr_ttl.as_secs());
        self.u32(entry.entry_ttl.subsec_nanos()).u32(entry.attr_ttl.subsec_nanos());
        self.attr(&entry.attr)
    }

    pub(super) fn opened(&mut self, opened: &Opened) -> &mut Self {
        let mut flags = 0;
        if opened.direct {
            flags |= abi::fopen::DIRECT_IO;
        }
        if opened.keep_cache {
            flags |= abi::fopen::KEEP_CACHE;
        }
        self.u64(opened.handle.0).u32(flags).u32(0)
    }
}

pub(super) fn attr(attr: &Attr, ttl: Duration) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::ATTR_OUT_SIZE);
    out.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0).attr(attr);
    out.finish()
}

pub(super) fn entry(entry: &Entry) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::ENTRY_OUT_SIZE);
    out.entry(entry);
    out.finish()
}

pub(super) fn created(entry: &Entry, opened: &Opened) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::ENTRY_OUT_SIZE + abi::OPEN_OUT_SIZE);
    out.entry(entry).opened(opened);
    out.finish()
}

pub(super) fn opened(opened: &Opened) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::OPEN_OUT_SIZE);
    out.opened(opened);
    out.finish()
}

pub(super) fn count(count: u32) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::WRITE_OUT_SIZE);
    out.u32(count).u32(0);
    out.finish()
}

pub(super) fn offset(offset: u64) -> Vec<u8> {
    offset.to_le_bytes().to_vec()
}

pub(super) fn stat_fs(stat: &StatFs) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::STATFS_OUT_SIZE);
    out.u64(stat.blocks).u64(stat.blocks_free).u64(stat.blocks_available);
    out.u64(stat.files).u64(stat.files_free);
    out.u32(stat.block_size).u32(stat.name_max).u32(stat.fragment_size).u32(0);
    out.raw(&[0; 24]);
    out.finish()
}

pub(super) fn lock(lock: &Lock) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::LOCK_OUT_SIZE);
    let kind = match lock.kind {
        LockKind::Shared => 0,
        LockKind::Exclusive => 1,
        LockKind::Unlock => 2,
    };
    out.u64(lock.start).u64(lock.end).u32(kind).u32(lock.pid);
    out.finish()
}

/// Puts the header in front of a body of `body_length` bytes that is in place already; how long
/// the reply is.
pub(super) fn put_header(
    reply: &mut Writable,
    unique: u64,
    result: Result<(), Errno>,
    body_length: usize,
) -> usize {
    let length = abi::OUT_HEADER_SIZE + body_length;
    if reply.capacity() < length {
        return 0;
    }
    let error = result.map_or_else(|errno| -errno.number(), |()| 0);
    let mut out = Encoder::with_capacity(abi::OUT_HEADER_SIZE);
    out.u32(u32::try_from(length).unwrap_or(u32::MAX)).raw(&error.to_le_bytes()).u64(unique);
    reply.put(0, &out.finish());
    length
}

/// Puts a whole reply; 0 when there is no room for it.
pub(super) fn put(reply: &mut Writable, unique: u64, result: Result<Vec<u8>, Errno>) -> usize {
    match result {
        Ok(body) if reply.capacity() < abi::OUT_HEADER_SIZE + body.len() => {
            put_header(reply, unique, Err(Errno::EIO), 0)
        }
        Ok(body) => {
            reply.put(abi::OUT_HEADER_SIZE, &body);
            put_header(reply, unique, Ok(()), body.len())
        }
        Err(errno) => put_header(reply, unique, Err(errno), 0),
    }
}
