//! A raw disk image on the host that remembers which parts of it were written, so that nobody
//! has to read gigabytes of holes to find out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use mkext4::RegionSink;

/// What the map counts in; the QCOW2 cluster size, so that one bit answers for one cluster.
pub(crate) const PART_SIZE: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct SparseFile {
    file: File,
    size: u64,
    written: Vec<bool>,
}

impl SparseFile {
    /// An unnamed temporary file of `size` zero bytes; it goes away with this value.
    pub(crate) fn new(size: u64) -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        file.set_len(size)?;
        let parts = usize::try_from(size.div_ceil(PART_SIZE)).map_err(io::Error::other)?;
        Ok(Self { file, size, written: vec![false; parts] })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Numbers of the parts that anything was written to, ascending.
    pub(crate) fn written_parts(&self) -> impl Iterator<Item = u64> {
        (0u64..).zip(&self.written).filter(|(_, written)| **written).map(|(part, _)| part)
    }

    /// One part; the last is filled up with zeros.
    pub(crate) fn read_part(&self, part: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = part * PART_SIZE;
        let length = usize::try_from(PART_SIZE.min(self.size.saturating_sub(offset)))
            .map_err(io::Error::other)?;
        let (head, tail) = buffer.split_at_mut(length);
        self.file.read_exact_at(head, offset)?;
        tail.fill(0);
        Ok(())
    }
}

impl RegionSink for SparseFile {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.size);
        let Some(end) = end else { return Err(io::ErrorKind::InvalidInput.into()) };
        for part in offset / PART_SIZE..end.div_ceil(PART_SIZE) {
            let part = usize::try_from(part).map_err(io::Error::other)?;
            self.written[part] = true;
        }
        self.file.write_all_at(bytes, offset)
    }

    fn zeros(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_written_parts_are_listed() {
        let mut file = SparseFile::new(4 * PART_SIZE + 4096).unwrap();
        file.data(PART_SIZE - 1, &[1, 2]).unwrap();
        file.data(4 * PART_SIZE, &[3; 4096]).unwrap();
        assert_eq!(file.written_parts().collect::<Vec<_>>(), [0, 1, 4]);
        let mut buffer = vec![9; 65536];
        file.read_part(4, &mut buffer).unwrap();
        assert_eq!((buffer[4095], buffer[4096]), (3, 0));
    }

    #[test]
    fn writing_past_the_end_is_refused() {
        let mut file = SparseFile::new(4096).unwrap();
        assert!(file.data(4095, &[1, 2]).is_err());
        assert!(file.data(u64::MAX, &[1, 2]).is_err());
    }
}
