//! The members of a layer's archive: ustar, GNU and pax headers.
//!
//! Headers are read one at a time at their place in a file, and nothing but them: a name or a pax
//! header has a limit however long it claims to be, and a member's data stays where it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tar::{EntryType, Header};

use crate::pax::Records;
use crate::sparse::{Map, Piece};
use crate::tree::EntryProblem;

const BLOCK: u64 = 512;
/// Bytes of a pax header or a long name: Linux's limit of an attribute's value is 64 KiB, and a
/// file has few of them.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// Bytes that are read where one wants.
pub trait ReadAt {
    /// How many there are.
    ///
    /// # Errors
    ///
    /// As the system has it.
    fn length(&self) -> io::Result<u64>;

    /// Fill the buffer from `offset` on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] past the end, else as the system has it.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(buffer.len());
        let part = self.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    Directory,
    /// Where its data lies in the archive.
    File {
        offset: u64,
        size: u64,
        /// Of a file with holes, the rest.
        pieces: Option<Arc<[Piece]>>,
    },
    Symlink,
    HardLink,
    Character {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// One member, as its headers have it; names are not checked yet.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: MemberKind,
    /// `0o7777` at most.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    pub(crate) records: Records,
}

/// Why the archive cannot be read on, and the name of the member, as far as it is known.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) name: Vec<u8>,
    pub(crate) problem: EntryProblem,
}

/// The members of an archive, in order. After an error there are none.
pub(crate) struct Members<'a, S: ?Sized> {
    source: &'a S,
    length: u64,
    at: u64,
}

/// What headers before a member's own have said of it.
#[derive(Default)]
struct Pending {
    records: Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'a, S: ReadAt + ?Sized> Members<'a, S> {
    pub(crate) fn new(source: &'a S) -> io::Result<Self> {
        Ok(Self { source, length: source.length()?, at: 0 })
    }

    fn read_next(&mut self) -> Result<Option<Member>, Damage> {
        let mut pending = Pending::default();
        loop {
            let damage = |problem| Damage { name: pending.known_name(), problem };
            let Some(header) = self.header().map_err(damage)? else {
                // Extensions belong to a member.
                let is_whole = pending.name.is_none()
                    && pending.link.is_none()
                    && pending.records == Records::default();
                return if is_whole { Ok(None) } else { Err(damage(EntryProblem::Truncated)) };
            };
            let name = pending.name_of(&header);
            let damage = |problem| Damage { name: name.clone(), problem };
            let kind = header.entry_type();
            if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
                let data = self.extension(&header).map_err(damage)?;
                let records = Records::parse(&data).ok_or_else(|| damage(EntryProblem::Header))?;
                // Global ones are comments of whoever made the archive, as everywhere.
                if kind.is_pax_local_extensions() {
                    pending.records = records;
                }
            } else if kind.is_gnu_longname() {
                pending.name = Some(until_nul(self.extension(&header).map_err(damage)?));
            } else if kind.is_gnu_longlink() {
                pending.link = Some(until_nul(self.extension(&header).map_err(damage)?));
            } else {
                let link = pending.link_of(&header);
                let member = self.member(&header, name.clone(), link, pending.records);
                return member.map(Some).map_err(damage);
            }
        }
    }

    /// The next header; nothing at the end, which is a block of zeros or that of the file.
    fn header(&mut self) -> Result<Option<Header>, EntryProblem> {
        if self.at == self.length {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.source
            .read_exact_at(header.as_mut_bytes(), self.at)
            .map_err(|_| EntryProblem::Truncated)?;
        self.at += BLOCK;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
        if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
            return Err(EntryProblem::Header);
        }
        Ok(Some(header))
    }

    /// The data of a header that is about the next member.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, EntryProblem> {
        let size = header.entry_size().map_err(|_| EntryProblem::Header)?;
        if size > MAX_EXTENSION {
            return Err(EntryProblem::LongHeader);
        }
        let offset = self.skip(size)?;
        let mut data = vec![0; usize::try_from(size).map_err(|_| EntryProblem::LongHeader)?];
        self.source.read_exact_at(&mut data, offset).map_err(|_| EntryProblem::Truncated)?;
        Ok(data)
    }

    /// Pass over a member's data; says where it begins.
    fn skip(&mut self, size: u64) -> Result<u64, EntryProblem> {
        let offset = self.at;
        let end = offset.checked_add(size).filter(|end| *end <= self.length);
        let end = end.ok_or(EntryProblem::Truncated)?;
        // A last block that is not filled up ends the archive.
        self.at = end.next_multiple_of(BLOCK).min(self.length);
        Ok(offset)
    }

    /// A file, with or without holes.
    fn file(&mut self, header: &Header, records: &Records) -> Result<MemberKind, EntryProblem> {
        let stored = match records.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| EntryProblem::Header)?,
        };
        if header.entry_type().is_gnu_sparse() {
            let map = Map::of_header(header, self.source, &mut self.at)?;
            let offset = self.skip(stored)?;
            let pieces = Some(map.place(offset, stored)?);
            return Ok(MemberKind::File { offset, size: map.size, pieces });
        }
        let offset = self.skip(stored)?;
        let Some(sparse) = &records.sparse else {
            return Ok(MemberKind::File { offset, size: stored, pieces: None });
        };
        let (map, used) = Map::of_records(sparse, self.source, offset, stored)?;
        let pieces = Some(map.place(offset + used, stored - used)?);
        Ok(MemberKind::File { offset, size: map.size, pieces })
    }

    fn member(
        &mut self,
        header: &Header,
        name: Vec<u8>,
        link: Vec<u8>,
        records: Records,
    ) -> Result<Member, EntryProblem> {
        let bad = |_| EntryProblem::Header;
        let kind = header.entry_type();
        let device =
            |number: io::Result<Option<u32>>| number.ok().flatten().ok_or(EntryProblem::Header);
        let kind = match kind {
            // Before ustar a directory was told by its slash.
            EntryType::Regular if header.as_ustar().is_none() && name.ends_with(b"/") => {
                MemberKind::Directory
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(header, &records)?
            }
            EntryType::Directory => MemberKind::Directory,
            EntryType::Symlink => MemberKind::Symlink,
            EntryType::Link => MemberKind::HardLink,
            EntryType::Char => MemberKind::Character {
                major: device(header.device_major())?,
                minor: device(header.device_minor())?,
            },
            EntryType::Block => MemberKind::Block {
                major: device(header.device_major())?,
                minor: device(header.device_minor())?,
            },
            EntryType::Fifo => MemberKind::Fifo,
            other => return Err(EntryProblem::Type(other.as_byte())),
        };
        let owner = |record: Option<u64>, field: io::Result<u64>| {
            let id = match record {
                Some(id) => id,
                None => field.map_err(bad)?,
            };
            u32::try_from(id).map_err(|_| EntryProblem::Header)
        };
        let mode = header.mode().map_err(bad)? & 0o7777;
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => header.mtime().map_err(bad)?,
        };
        Ok(Member {
            name,
            link,
            kind,
            mode: u16::try_from(mode).map_err(|_| EntryProblem::Header)?,
            uid: owner(records.uid, header.uid())?,
            gid: owner(records.gid, header.gid())?,
            mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
            records,
        })
    }
}

impl Pending {
    fn known_name(&self) -> Vec<u8> {
        self.records.path.clone().or_else(|| self.name.clone()).unwrap_or_default()
    }

    fn name_of(&self, header: &Header) -> Vec<u8> {
        let records = &self.records;
        let given = records.sparse_name.clone().or_else(|| records.path.clone());
        let given = given.or_else(|| self.name.clone());
        given.unwrap_or_else(|| header.path_bytes().into_owned())
    }

    fn link_of(&self, header: &Header) -> Vec<u8> {
        let given = self.records.link.clone().or_else(|| self.link.clone());
        given.or_else(|| Some(header.link_name_bytes()?.into_owned())).unwrap_or_default()
    }
}

impl<S: ReadAt + ?Sized> Iterator for Members<'_, S> {
    type Item = Result<Member, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read_next();
        if next.is_err() {
            self.at = self.length;
        }
        next.transpose()
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
#[path = "archive/tests.rs"]
mod tests;
