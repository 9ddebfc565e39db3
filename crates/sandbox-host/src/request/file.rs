//! Requests of `FileService`, checked, and the rules of trees, which hold in both directions.

use protocol::v1::tree_piece::Piece;
use protocol::v1::{FileStat, FileType, TreeEntry, TreePiece};

use super::RequestError;
use crate::limits::{FILE_PIECE_BYTES, MAX_NAME, MAX_PATH, TREE_DEPTH};

/// Permission bits with set-id and sticky bits.
const MODES: u32 = 0o7777;

/// Checks a path of the guest: absolute, without NUL, not longer than Linux takes.
///
/// # Errors
/// [`RequestError`] names the field.
pub fn guest_path(field: &'static str, path: &[u8]) -> Result<(), RequestError> {
    let good = path.first() == Some(&b'/') && path.len() < MAX_PATH && !path.contains(&0);
    if good {
        return Ok(());
    }
    let reason = format!("it must be an absolute path of less than {MAX_PATH} bytes without NUL");
    Err(RequestError::new(field, String::from_utf8_lossy(path), reason))
}

/// Checks what a symlink is to hold.
///
/// # Errors
/// [`RequestError`] names the field.
pub fn link_target(field: &'static str, target: &[u8]) -> Result<(), RequestError> {
    if is_link_target(target) {
        return Ok(());
    }
    let reason = format!("it must be 1 to {} bytes without NUL", MAX_PATH - 1);
    Err(RequestError::new(field, String::from_utf8_lossy(target), reason))
}

/// Checks permission bits.
///
/// # Errors
/// [`RequestError`] names the field.
pub fn permissions(field: &'static str, bits: Option<u32>) -> Result<(), RequestError> {
    match bits {
        Some(bits) if bits & !MODES != 0 => {
            Err(RequestError::new(field, bits, "permissions are at most 0o7777"))
        }
        _ => Ok(()),
    }
}

/// What a symlink can hold.
pub(crate) fn is_link_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() < MAX_PATH && !target.contains(&0)
}

/// A name in a directory: 1 to 255 bytes, no "/", no NUL, not "." and not "..".
pub(crate) fn is_name(name: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        && name != b"."
        && name != b".."
}

/// A stat with a type, and with sound values in what else is there.
pub(crate) fn is_stat(stat: &FileStat) -> bool {
    let times = [stat.modified, stat.accessed, stat.changed];
    stat.r#type() != FileType::Unspecified
        && stat.mode.is_none_or(|mode| mode & !MODES == 0)
        && times.into_iter().flatten().all(|time| time.nanos < 1_000_000_000)
}

/// Follows a tree piece by piece. What it lets through can be made below one directory, without
/// following anything: see lanebox/v1/file.proto.
#[derive(Debug, Default)]
pub struct TreeRules {
    begun: bool,
    /// Directories that the next entry may be in, the top first.
    directories: Vec<Vec<u8>>,
    /// Bytes that the current file may still have.
    left: u64,
}

impl TreeRules {
    /// Checks the next piece; the text says what is wrong.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn take(&mut self, piece: &TreePiece) -> Result<(), String> {
        match &piece.piece {
            Some(Piece::Entry(entry)) => self.entry(entry),
            Some(Piece::Data(data)) if data.is_empty() || data.len() > FILE_PIECE_BYTES => {
                Err(format!("a piece of data has {} bytes", data.len()))
            }
            Some(Piece::Data(data)) => self.content(data.len() as u64),
            Some(Piece::Hole(0)) => Err("a hole is empty".to_owned()),
            Some(Piece::Hole(length)) => self.content(*length),
            None => Err("a piece is empty".to_owned()),
        }
    }

    fn content(&mut self, length: u64) -> Result<(), String> {
        let left = self.left.checked_sub(length);
        self.left = left.ok_or("a file has more content than its stat says")?;
        Ok(())
    }

    fn entry(&mut self, entry: &TreeEntry) -> Result<(), String> {
        let stat = entry.stat.filter(is_stat).ok_or("an entry has an impossible stat")?;
        self.place(&entry.path)?;
        let is_link = stat.r#type() == FileType::Symlink;
        if is_link != is_link_target(&entry.target) || (!is_link && !entry.target.is_empty()) {
            return Err("a symlink has no target, or something else has one".to_owned());
        }
        self.left = 0;
        match stat.r#type() {
            FileType::Directory => self.directories.push(entry.path.to_vec()),
            FileType::File => {
                let size = stat.size.filter(|size| i64::try_from(*size).is_ok());
                self.left = size.ok_or("a file has an impossible size")?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The top comes first and once; everything else is in the directory that came last, or in one
    /// above that.
    fn place(&mut self, path: &[u8]) -> Result<(), String> {
        if !self.begun {
            self.begun = true;
            return if path.is_empty() { Ok(()) } else { Err("the top is missing".to_owned()) };
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(0) => return Err("an entry has an absolute path".to_owned()),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        if !is_name(name) || path.len() >= MAX_PATH {
            return Err("an entry has an impossible name".to_owned());
        }
        let Some(depth) = self.directories.iter().rposition(|known| known == parent) else {
            return Err("an entry is in no directory of the tree".to_owned());
        };
        if depth >= TREE_DEPTH {
            return Err(format!("an entry is more than {TREE_DEPTH} directories deep"));
        }
        self.directories.truncate(depth + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: &str, kind: FileType) -> TreePiece {
        let target = if kind == FileType::Symlink { "/etc" } else { "" };
        let stat = FileStat { r#type: kind.into(), size: Some(4), ..FileStat::default() };
        let entry =
            TreeEntry { path: path.to_owned().into(), stat: Some(stat), target: target.into() };
        TreePiece { piece: Some(Piece::Entry(entry)) }
    }

    fn data(length: usize) -> TreePiece {
        TreePiece { piece: Some(Piece::Data(vec![0; length].into())) }
    }

    fn hole(length: u64) -> TreePiece {
        TreePiece { piece: Some(Piece::Hole(length)) }
    }

    fn check(pieces: &[TreePiece]) -> Result<(), String> {
        let mut rules = TreeRules::default();
        pieces.iter().try_for_each(|piece| rules.take(piece))
    }

    use FileType::{Directory, File, Symlink};

    #[test]
    fn tree_comes_from_the_top_down() {
        let top = entry("", Directory);
        let good = [
            vec![entry("", File), data(2), hole(2)],
            vec![entry("", Symlink)],
            vec![top.clone(), entry("a", Directory), entry("a/b", File), data(4), entry("c", File)],
        ];
        for pieces in good {
            assert_eq!(check(&pieces), Ok(()));
        }
    }

    #[test]
    fn entry_outside_of_an_open_directory_is_refused() {
        let top = entry("", Directory);
        let bad = [
            vec![entry("a", File)],
            vec![entry("", File), entry("a", File)],
            vec![top.clone(), entry("", Directory)],
            vec![top.clone(), entry("a", Symlink), entry("a/passwd", File)],
            vec![top.clone(), entry("a/b", File)],
            vec![top.clone(), entry("a", Directory), entry("c", File), entry("a/b", File)],
            vec![top.clone(), entry("..", Directory)],
            vec![top.clone(), entry(".", Directory)],
            vec![top.clone(), entry("/etc", Directory)],
            vec![top.clone(), entry("a//b", File)],
            vec![top.clone(), entry("a\0", File)],
            vec![top.clone(), entry(&"a".repeat(256), File)],
        ];
        for pieces in bad {
            assert!(check(&pieces).is_err(), "{pieces:?}");
        }
    }

    #[test]
    fn content_is_as_long_as_the_stat_says_at_most() {
        for bad in [
            vec![data(1)],
            vec![entry("", Directory), data(1)],
            vec![entry("", File), data(5)],
            vec![entry("", File), data(4), hole(1)],
            vec![entry("", File), hole(u64::MAX)],
            vec![entry("", File), data(0)],
            vec![entry("", File), hole(0)],
            vec![TreePiece { piece: None }],
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_of_the_guest_are_absolute_and_bounded() {
        for good in [&b"/"[..], b"/a/../b", b"/\xff", &[b'/'; 4095]] {
            assert_eq!(guest_path("path", good), Ok(()));
        }
        for bad in [&b""[..], b"a", b"/\0", &[b'/'; 4096]] {
            assert!(guest_path("path", bad).is_err());
        }
    }

    proptest! {
        /// Whatever a guest sends, what passes can be joined to a directory and stays below it, and
        /// every part but the last has been a directory.
        #[test]
        fn what_passes_stays_below_the_top(
            entries in prop::collection::vec(("[ab./]{0,5}", 0..4usize), 0..20),
        ) {
            let mut rules = TreeRules::default();
            let mut made = std::collections::HashSet::new();
            for (path, kind) in entries {
                let kind = [Directory, Directory, File, Symlink][kind];
                if rules.take(&entry(&path, kind)).is_ok() {
                    prop_assert!(path.is_empty() || path.split('/').all(|name| is_name(name.as_bytes())));
                    if !path.is_empty() {
                        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                        prop_assert!(made.contains(parent));
                    }
                    if kind == Directory {
                        made.insert(path);
                    }
                }
            }
        }
    }
}
