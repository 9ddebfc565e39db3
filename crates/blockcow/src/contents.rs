//! The bytes of a whole disk, in order; of its holes only how long they are.

use std::ops::Range;
use std::sync::Arc;

use futures::{Stream, TryStreamExt, stream};

use crate::disk::Disk;
use crate::error::ReadError;
use crate::target::BufferTarget;

/// Pieces that are read side by side.
const AHEAD: usize = 4;

/// Parts of a disk in which holes are looked for at once.
const SEARCH_BYTES: u64 = 1 << 30;

/// What comes next on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// So many zeros.
    Zeros(u64),
    /// These bytes.
    Data(Vec<u8>),
}

/// All of a disk from its first byte to its last, in pieces of at most `piece_bytes`; only what may
/// hold anything is read. Memory: [`AHEAD`] pieces.
pub fn contents(
    disk: Arc<Disk>,
    piece_bytes: usize,
) -> impl Stream<Item = Result<Piece, ReadError>> + Send {
    runs(Arc::clone(&disk), piece_bytes as u64)
        .map_ok(move |run| read(Arc::clone(&disk), run))
        .try_buffered(AHEAD)
}

enum Run {
    Zeros(u64),
    Data(Range<u64>),
}

fn runs(disk: Arc<Disk>, most: u64) -> impl Stream<Item = Result<Run, ReadError>> + Send {
    stream::try_unfold((0, disk), move |(position, disk)| async move {
        if position >= disk.size_bytes() {
            return Ok(None);
        }
        let end = (position + SEARCH_BYTES).min(disk.size_bytes());
        let run = match disk.next_data(position..end).await? {
            None => Run::Zeros(end - position),
            Some(data) if data.start > position => Run::Zeros(data.start - position),
            Some(data) => Run::Data(position..data.end.min(position + most)),
        };
        let next = match &run {
            Run::Zeros(count) => position + count,
            Run::Data(range) => range.end,
        };
        Ok(Some((run, (next, disk))))
    })
}

async fn read(disk: Arc<Disk>, run: Run) -> Result<Piece, ReadError> {
    match run {
        Run::Zeros(count) => Ok(Piece::Zeros(count)),
        Run::Data(range) => {
            let length = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
            let mut bytes = vec![0; length];
            disk.read(range.start, &mut BufferTarget::new(&mut bytes)).await?;
            Ok(Piece::Data(bytes))
        }
    }
}
