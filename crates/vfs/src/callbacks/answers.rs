//! The check of what callbacks answer: what cannot be is `EIO` and an event.

use super::path::FilePath;
use super::types::FileStat;
use crate::{Errno, Event, Kind, Observer};

/// The longest extended attribute, and list of their names.
const XATTR_MAX: usize = 65_536;

/// Reports wrong answers.
pub(super) struct Checker {
    pub(super) observer: Observer,
}

impl Checker {
    /// Reports, and gives what the guest gets.
    pub(super) fn wrong(
        &self,
        callback: &'static str,
        path: &FilePath,
        problem: impl Into<String>,
    ) -> Errno {
        let (path, problem) = (path.as_bytes().to_vec(), problem.into());
        self.observer.report(Event::WrongAnswer { callback, path, problem });
        Errno::EIO
    }

    pub(super) fn stat(
        &self,
        callback: &'static str,
        path: &FilePath,
        stat: FileStat,
    ) -> Result<FileStat, Errno> {
        let problem = if *path == FilePath::root() && stat.kind != Kind::Directory {
            "The root is not a directory".to_string()
        } else if stat.size.is_some_and(|size| i64::try_from(size).is_err()) {
            format!("The size {:?} is no file's", stat.size)
        } else if stat.permissions.is_some_and(|bits| bits > 0o7777) {
            format!("The mode {:o} has more than permission bits", stat.permissions.unwrap_or(0))
        } else if [stat.modified, stat.accessed, stat.changed]
            .into_iter()
            .flatten()
            .any(|time| time.nanos > 999_999_999)
        {
            "A time has more than a second of nanoseconds".to_string()
        } else if stat.ino == Some(0) {
            "The inode number 0 is no file's".to_string()
        } else if matches!(stat.kind, Kind::CharDevice | Kind::BlockDevice) {
            "Devices are not served".to_string()
        } else {
            return Ok(stat);
        };
        Err(self.wrong(callback, path, problem))
    }

    pub(super) fn at_most(
        &self,
        callback: &'static str,
        path: &FilePath,
        count: usize,
        limit: usize,
    ) -> Result<(), Errno> {
        if count <= limit {
            return Ok(());
        }
        Err(self.wrong(callback, path, format!("{count} bytes where at most {limit} can be")))
    }

    pub(super) fn target(&self, path: &FilePath, target: Vec<u8>) -> Result<Vec<u8>, Errno> {
        match crate::Target::new(&target) {
            Ok(_) => Ok(target),
            Err(_) => Err(self.wrong("readlink", path, "This is no symlink target")),
        }
    }

    pub(super) fn xattr(&self, path: &FilePath, value: Vec<u8>) -> Result<Vec<u8>, Errno> {
        self.at_most("getxattr", path, value.len(), XATTR_MAX)?;
        Ok(value)
    }

    pub(super) fn xattr_names(&self, path: &FilePath, names: &[Vec<u8>]) -> Result<Vec<u8>, Errno> {
        let mut list = Vec::new();
        for name in names {
            if name.is_empty() || name.len() > 255 || name.contains(&0) {
                return Err(self.wrong("listxattr", path, "This is no attribute name"));
            }
            list.extend_from_slice(name);
            list.push(0);
        }
        self.at_most("listxattr", path, list.len(), XATTR_MAX)?;
        Ok(list)
    }
}
