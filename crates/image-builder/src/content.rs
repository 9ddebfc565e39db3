//! The bytes of one file of an image. They stay where they came from until they are copied into it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use oci_image::Piece;

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
    /// Of a file with holes, all that is none; the offset says nothing then.
    pub(crate) pieces: Option<Arc<[Piece]>>,
}

impl Content {
    /// A part of a file of this machine.
    pub(crate) fn named(file: Rc<Path>, offset: u64, size: u64) -> Self {
        Self { origin: Origin::Named(file), offset, size, pieces: None }
    }

    pub(crate) fn memory(bytes: &[u8]) -> Self {
        let size = bytes.len() as u64;
        Self { origin: Origin::Memory(Rc::from(bytes)), offset: 0, size, pieces: None }
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
        let part = |it: &Self| (it.offset, it.size, it.pieces.clone());
        same && part(self) == part(other)
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
        Ok(match &content.pieces {
            None => Box::new(Part { file, at: content.offset, left: content.size }),
            Some(pieces) => {
                let pieces = Arc::clone(pieces);
                Box::new(WithHoles { file, pieces, next: 0, at: 0, size: content.size })
            }
        })
    }
}

/// The pieces of a file in order, and zeros between them and after the last.
struct WithHoles {
    file: Rc<File>,
    pieces: Arc<[Piece]>,
    /// The piece that comes next, or is being read.
    next: usize,
    at: u64,
    size: u64,
}

impl Read for WithHoles {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pieces.get(self.next).is_some_and(|piece| self.at >= piece.at + piece.size) {
            self.next += 1;
        }
        let piece = self.pieces.get(self.next);
        let hole_end = piece.map_or(self.size, |piece| piece.at);
        let most = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match piece {
            Some(piece) if self.at >= piece.at => {
                let passed = self.at - piece.at;
                let most = most(piece.size - passed);
                self.file.read_at(&mut buffer[..most], piece.offset + passed)?
            }
            _ => {
                let most = most(hole_end - self.at);
                buffer[..most].fill(0);
                most
            }
        };
        self.at += count as u64;
        Ok(count)
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
            Content { origin: Origin::Open(Rc::clone(&open)), offset: 2, size: 3, pieces: None },
            Content::memory(b"234"),
        ] {
            assert_eq!(text(&mut reader, &content), "234");
        }
        assert_eq!(text(&mut reader, &Content::named(path, 8, 9)), "89");
        let pieces = [Piece { at: 1, offset: 4, size: 2 }, Piece { at: 3, offset: 0, size: 1 }];
        let pieces: Option<Arc<[Piece]>> = Some(Arc::from(pieces));
        let holes = Content { origin: Origin::Open(open), offset: 0, size: 6, pieces };
        assert_eq!(text(&mut reader, &holes), "\x00450\x00\x00");
    }
}
