//! What a guest answers about its files, checked.

use protocol::ErrorCode;
use protocol::v1::{
    ReadDirectoryResponse, ReadFileResponse, ReadLinkResponse, ReadTreeResponse, StatResponse,
};

use crate::limits::{DIRECTORY_PIECE_ENTRIES, FILE_PIECE_BYTES};
use crate::request::{TreeRules, is_link_target, is_name, is_stat};

/// What a guest may answer a call about files with.
pub(super) const ERRORS: &[ErrorCode] = &[
    ErrorCode::FileError,
    ErrorCode::InvalidArgument,
    ErrorCode::LimitExceeded,
    ErrorCode::SandboxClosed,
    ErrorCode::Internal,
];

/// Checks the answers to one call, in their order.
pub trait Check<R>: Send {
    /// Checks the next one.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&mut self, answer: &R) -> Result<(), String>;
}

/// For answers that cannot be wrong.
#[derive(Debug)]
pub struct Empty;

impl<R> Check<R> for Empty {
    fn check(&mut self, _answer: &R) -> Result<(), String> {
        Ok(())
    }
}

/// For `Stat`.
#[derive(Debug)]
pub struct Stat;

impl Check<StatResponse> for Stat {
    fn check(&mut self, answer: &StatResponse) -> Result<(), String> {
        let good = answer.stat.as_ref().is_some_and(is_stat);
        if good { Ok(()) } else { Err("Stat answered with an impossible stat".to_owned()) }
    }
}

/// For `ReadLink`.
#[derive(Debug)]
pub struct Link;

impl Check<ReadLinkResponse> for Link {
    fn check(&mut self, answer: &ReadLinkResponse) -> Result<(), String> {
        let good = is_link_target(&answer.target);
        if good { Ok(()) } else { Err("ReadLink answered with an impossible target".to_owned()) }
    }
}

/// For `ReadDirectory`.
#[derive(Debug)]
pub struct Directory;

impl Check<ReadDirectoryResponse> for Directory {
    fn check(&mut self, answer: &ReadDirectoryResponse) -> Result<(), String> {
        if !(1..=DIRECTORY_PIECE_ENTRIES).contains(&answer.entries.len()) {
            return Err(format!("ReadDirectory sent {} entries at once", answer.entries.len()));
        }
        let sound = answer
            .entries
            .iter()
            .all(|entry| is_name(&entry.name) && entry.stat.as_ref().is_some_and(is_stat));
        if sound { Ok(()) } else { Err("ReadDirectory sent an impossible entry".to_owned()) }
    }
}

/// For `ReadFile`: never more than was asked for.
#[derive(Debug)]
pub struct Content {
    /// Bytes that may still come.
    pub left: u64,
}

impl Check<ReadFileResponse> for Content {
    fn check(&mut self, answer: &ReadFileResponse) -> Result<(), String> {
        let length = answer.data.len();
        if length == 0 || length > FILE_PIECE_BYTES {
            return Err(format!("ReadFile sent {length} bytes in one piece"));
        }
        let left = self.left.checked_sub(length as u64);
        self.left = left.ok_or("ReadFile sent more than was asked for")?;
        Ok(())
    }
}

impl Check<ReadTreeResponse> for TreeRules {
    fn check(&mut self, answer: &ReadTreeResponse) -> Result<(), String> {
        let piece = answer.piece.as_ref().ok_or("ReadTree sent an empty message")?;
        self.take(piece).map_err(|problem| format!("ReadTree sent a wrong tree: {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use protocol::v1::{DirectoryEntry, FileStat, FileType};

    use super::*;

    fn stat() -> FileStat {
        FileStat { r#type: FileType::File.into(), ..FileStat::default() }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        let entry = |name: &[u8]| DirectoryEntry { name: name.to_vec().into(), stat: Some(stat()) };
        let check = |entries| Directory.check(&ReadDirectoryResponse { entries });
        assert_eq!(check(vec![entry(b"a\xff\n")]), Ok(()));
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
            assert!(check(vec![entry(bad)]).is_err());
        }
        assert!(check(vec![DirectoryEntry { stat: None, ..entry(b"a") }]).is_err());
        assert!(check(vec![]).is_err());
        assert!(check(vec![entry(b"a"); DIRECTORY_PIECE_ENTRIES + 1]).is_err());
    }

    #[test]
    fn content_is_never_more_than_was_asked_for() {
        let piece = |length| ReadFileResponse { data: vec![0; length].into() };
        let mut content = Content { left: 10 };
        assert_eq!(content.check(&piece(6)), Ok(()));
        assert!(content.check(&piece(0)).is_err());
        assert!(content.check(&piece(5)).is_err());
        assert!(Content { left: u64::MAX }.check(&piece(FILE_PIECE_BYTES + 1)).is_err());
    }

    #[test]
    fn impossible_stats_and_links_are_refused() {
        assert_eq!(Stat.check(&StatResponse { stat: Some(stat()) }), Ok(()));
        let wrong = FileStat { mode: Some(0o10_0644), ..stat() };
        for bad in [None, Some(FileStat::default()), Some(wrong)] {
            assert!(Stat.check(&StatResponse { stat: bad }).is_err());
        }
        for bad in [&b""[..], b"a\0"] {
            assert!(Link.check(&ReadLinkResponse { target: bad.to_vec().into() }).is_err());
        }
    }
}
