//! The bytes of one file of an image. They stay where they came from until they are copied into it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// Where bytes come from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A file of this machine, opened when it is read.
    Named(Rc<Path>),
    /// A file that is open, and may have no name.
    Open(Rc<File>),
    /// Made here.
    Memory(Rc<[u8]>),
}

/// A part of an origin.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) origin: Origin,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Content {
    /// A part of a file of this machine.
    pub(crate) fn named(file: Rc<Path>, offset: u64, size: u64) -> Self {
        Self { origin: Origin::Named(file), offset, size }
    }

    pub(crate) fn memory(bytes: &[u8]) -> Self {
        Self { origin: Origin::Memory(Rc::from(bytes)), offset: 0, size: bytes.len() as u64 }
    }

    /// What errors call it.
    pub(crate) fn origin_name(&self) -> &Path {
        match &self.origin {
            Origin::Named(path) => path,
            Origin::Open(_) => Path::new("the unpacked layer"),
            Origin::Memory(_) => Path::new("what the builder adds"),
        }
    }
}

/// Two contents are the same when they lie in the same place.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.origin, &other.origin) {
            (Origin::Named(one), Origin::Named(two)) => one == two,
            (Origin::Open(one), Origin::Open(two)) => Rc::ptr_eq(one, two),
            (Origin::Memory(one), Origin::Memory(two)) => one == two,
            _ => false,
        };
        same && (self.offset, self.size) == (other.offset, other.size)
    }
}

impl Eq for Content {}

/// Opens what contents lie in; the last file stays open, for most come from one archive.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    last: Option<(Rc<Path>, Rc<File>)>,
}

impl Reader {
    /// The bytes of a content.
    pub(crate) fn open(&mut self, content: &Content) -> io::Result<Box<dyn Read>> {
        let file = match &content.origin {
            Origin::Open(file) => Rc::clone(file),
            Origin::Memory(bytes) => {
                return Ok(Box::new(io::Cursor::new(Rc::clone(bytes)).take(content.size)));
            }
            Origin::Named(path) => match &self.last {
                Some((at, file)) if at == path => Rc::clone(file),
                _ => {
                    let file = Rc::new(File::open(path)?);
                    self.last = Some((Rc::clone(path), Rc::clone(&file)));
                    file
                }
            },
        };
        Ok(Box::new(Part { file, at: content.offset, left: content.size }))
    }
}

/// A part of a file; its position is its own.
struct Part {
    file: Rc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(reader: &mut Reader, content: &Content) -> String {
        let mut text = String::new();
        reader.open(content).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn bytes_come_from_wherever_they_are() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789").unwrap();
        let path: Rc<Path> = Rc::from(file.path());
        let open = Rc::new(file.reopen().unwrap());
        let mut reader = Reader::default();
        for content in [
            Content::named(Rc::clone(&path), 2, 3),
            Content { origin: Origin::Open(open), offset: 2, size: 3 },
            Content::memory(b"234"),
        ] {
            assert_eq!(text(&mut reader, &content), "234");
        }
        assert_eq!(text(&mut reader, &Content::named(path, 8, 9)), "89");
    }
}
