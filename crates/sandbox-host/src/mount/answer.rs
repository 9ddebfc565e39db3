//! `FilesystemAnswer`, checked against what was asked.
//!
//! What a file's attributes and names may be is checked where they are used, in `vfs::callbacks`.

use bytes::Bytes;
use protocol::v1;
use protocol::v1::filesystem_answer::Answer;
use vfs::callbacks::{DirectoryEntry, FileStat};
use vfs::{Errno, Kind, StatFs, Time};

use crate::callback::{Gather, Taken};

/// Most of `FilesystemAnswer.problem` that is kept.
const PROBLEM_BYTES: usize = 1024;
const NAME_MAX: u32 = 255;

/// What a question is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// That it is done.
    Done,
    /// What a file is.
    Stat,
    /// Entries, at most so many.
    Entries(usize),
    /// At most so many bytes.
    Data(usize),
    /// How many of so many bytes were written.
    Written(usize),
    /// Names of attributes.
    Names,
    /// Sizes of the filesystem.
    Sizes,
}

/// An answer of the kind that was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in Expected")]
pub enum Reply {
    Done,
    Stat(FileStat),
    Entries(Vec<DirectoryEntry>),
    Data(Bytes),
    Written(u64),
    Names(Vec<Vec<u8>>),
    Sizes(StatFs),
}

/// How a question ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Reply(Reply),
    /// The operation failed, which may have been nobody's intention.
    Failed {
        /// What the guest sees.
        errno: Errno,
        /// What the owner should hear of it.
        problem: Option<String>,
    },
    /// The answer cannot be.
    Wrong(String),
}

/// The answer to one question, as far as it has come.
#[derive(Debug)]
pub struct Gathering {
    expected: Expected,
    entries: Vec<DirectoryEntry>,
}

impl Gathering {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        Self { expected, entries: Vec::new() }
    }

    fn gather(&mut self, piece: v1::DirectoryEntries, limit: usize) -> Option<Outcome> {
        if self.entries.len() + piece.entries.len() > limit {
            self.entries = Vec::new();
            return Some(Outcome::Wrong(format!("More than {limit} entries in one directory")));
        }
        for entry in piece.entries {
            match stat(&entry.stat.unwrap_or_default()) {
                Ok(stat) => self.entries.push(DirectoryEntry { name: entry.name.to_vec(), stat }),
                Err(problem) => {
                    self.entries = Vec::new();
                    return Some(Outcome::Wrong(problem));
                }
            }
        }
        let whole = || Outcome::Reply(Reply::Entries(std::mem::take(&mut self.entries)));
        (!piece.more).then(whole)
    }
}

impl Gather for Gathering {
    type Answer = v1::FilesystemAnswer;
    type Outcome = Outcome;

    fn held(&self) -> usize {
        self.entries.len()
    }

    fn clear(&mut self) {
        self.entries = Vec::new();
    }

    fn take(&mut self, answer: v1::FilesystemAnswer) -> Taken<Outcome> {
        let more = matches!(&answer.answer, Some(Answer::Entries(piece)) if piece.more);
        let outcome = match (answer.answer, self.expected) {
            (Some(Answer::Errno(name)), _) => Some(failed(&name, &answer.problem)),
            (Some(Answer::Done(_)), Expected::Done) => Some(Outcome::Reply(Reply::Done)),
            (Some(Answer::Stat(found)), Expected::Stat) => Some(told(stat(&found), Reply::Stat)),
            (Some(Answer::Entries(piece)), Expected::Entries(limit)) => self.gather(piece, limit),
            (Some(Answer::Data(data)), Expected::Data(limit)) => Some(bytes(data, limit)),
            (Some(Answer::Written(count)), Expected::Written(of)) => Some(written(count, of)),
            (Some(Answer::Names(names)), Expected::Names) => {
                let names = names.names.iter().map(|name| name.to_vec()).collect();
                Some(Outcome::Reply(Reply::Names(names)))
            }
            (Some(Answer::Statfs(found)), Expected::Sizes) => {
                Some(told(sizes(&found), Reply::Sizes))
            }
            (Some(_), expected) => {
                Some(Outcome::Wrong(format!("An answer of another kind than {expected:?}")))
            }
            (None, _) => Some(Outcome::Wrong("An empty answer".to_owned())),
        };
        Taken { outcome, more }
    }
}

fn told<T>(result: Result<T, String>, reply: impl FnOnce(T) -> Reply) -> Outcome {
    result.map_or_else(Outcome::Wrong, |value| Outcome::Reply(reply(value)))
}

fn failed(name: &str, problem: &str) -> Outcome {
    let known = Errno::from_name(name);
    let problem = match known {
        _ if !problem.is_empty() => Some(shortened(problem)),
        None => Some(format!("{:?} is no error of Linux", shortened(name))),
        Some(_) => None,
    };
    Outcome::Failed { errno: known.unwrap_or(Errno::EIO), problem }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(PROBLEM_BYTES)].to_owned()
}

fn bytes(data: Bytes, limit: usize) -> Outcome {
    if data.len() > limit {
        return Outcome::Wrong(format!("{} bytes where at most {limit} can be", data.len()));
    }
    Outcome::Reply(Reply::Data(data))
}

fn written(count: u64, of: usize) -> Outcome {
    if count > of as u64 {
        return Outcome::Wrong(format!("{count} bytes written of {of}"));
    }
    Outcome::Reply(Reply::Written(count))
}

fn stat(stat: &v1::FileStat) -> Result<FileStat, String> {
    let kind = match v1::FileType::try_from(stat.r#type) {
        Ok(v1::FileType::File) => Kind::File,
        Ok(v1::FileType::Directory) => Kind::Directory,
        Ok(v1::FileType::Symlink) => Kind::Symlink,
        Ok(v1::FileType::Fifo) => Kind::Fifo,
        Ok(v1::FileType::Socket) => Kind::Socket,
        Ok(v1::FileType::CharacterDevice | v1::FileType::BlockDevice) => {
            return Err("Devices are not served".to_owned());
        }
        Ok(v1::FileType::Unspecified) | Err(_) => {
            return Err(format!("The type {} is no file's", stat.r#type));
        }
    };
    let time = |time: Option<v1::FileTime>| {
        time.map(|time| Time { seconds: time.seconds, nanos: time.nanos })
    };
    Ok(FileStat {
        kind,
        size: stat.size,
        allocated: stat.allocated,
        permissions: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        nlink: stat.nlink,
        ino: stat.ino,
        modified: time(stat.modified),
        accessed: time(stat.accessed),
        changed: time(stat.changed),
    })
}

fn sizes(sizes: &v1::FilesystemSizes) -> Result<StatFs, String> {
    if !(512..=1 << 24).contains(&sizes.block_size) {
        return Err(format!("Blocks of {} bytes", sizes.block_size));
    }
    if sizes.blocks_free > sizes.blocks || sizes.files_free > sizes.files {
        return Err("More is free than there is".to_owned());
    }
    Ok(StatFs {
        blocks: sizes.blocks,
        blocks_free: sizes.blocks_free,
        blocks_available: sizes.blocks_free,
        files: sizes.files,
        files_free: sizes.files_free,
        block_size: sizes.block_size,
        fragment_size: sizes.block_size,
        name_max: NAME_MAX,
    })
}

#[cfg(test)]
mod tests;
