//! Archives member by member, with names that a careful writer would refuse.

use std::io::Write;

use tar::{EntryType, Header};

use crate::manifest::Compression;

/// An archive that is being written.
#[derive(Default)]
pub(crate) struct Archive(Vec<u8>);

impl Archive {
    /// One member of any kind.
    pub(crate) fn member(
        mut self,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        data: &[u8],
        edit: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_ustar();
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name);
        raw.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(data.len() as u64);
        edit(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.member(EntryType::Regular, name.as_bytes(), b"", data.as_bytes(), |_| ())
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.member(EntryType::Directory, name.as_bytes(), b"", b"", |_| ())
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, name.as_bytes(), target.as_bytes(), b"", |_| ())
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Link, name.as_bytes(), target.as_bytes(), b"", |_| ())
    }

    /// A pax header before the next member.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            data.extend_from_slice(format!("{length} {key}=").as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.member(EntryType::XHeader, b"pax", b"", &data, |_| ())
    }

    /// With the two blocks that end an archive.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    /// As it is, cut off.
    pub(crate) fn cut(self) -> Vec<u8> {
        self.0
    }
}

/// The archive as a layer's blob.
pub(crate) fn packed(archive: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => archive.to_vec(),
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(archive).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(archive, level)
        }
    }
}
