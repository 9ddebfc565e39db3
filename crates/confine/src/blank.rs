//! A file without a name, made before the files are restricted, for a name that is not there yet.
//!
//! Landlock's rights belong to the file, not to its name: this one can be read and changed
//! afterwards, under its name too, and its directory needs the right to get new names alone. Files
//! beside it cannot be opened.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::linkat;

const OWNER_ONLY: u32 = 0o600;

/// A file that can be given its name.
#[derive(Debug)]
pub struct Blank {
    path: PathBuf,
    file: File,
    folder: File,
}

impl Blank {
    /// For a path that is not there.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let folder_path = path.parent().unwrap_or_else(|| Path::new("/"));
        let folder = File::open(folder_path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(OWNER_ONLY).custom_flags(libc::O_TMPFILE);
        Ok(Self { path: path.to_owned(), file: options.open(folder_path)?, folder })
    }

    /// The name that it is for.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file: empty, readable and writable for this user alone.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn folder(&self) -> &File {
        &self.folder
    }

    /// Gives the file its name, durably.
    ///
    /// # Errors
    /// `AlreadyExists` when something has the name by now, which stays.
    pub fn publish(&self) -> io::Result<()> {
        let name = self.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(AT_FDCWD, own.as_str(), &self.folder, name, AtFlags::AT_SYMLINK_FOLLOW)?;
        self.folder.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_gets_its_name_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let blank = Blank::make(&path).unwrap();
        assert!(!path.exists());
        blank.file().write_all(b"all of it").unwrap();
        blank.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
        assert_eq!(blank.publish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn one_that_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Blank::make(&folder.path().join("new")).unwrap());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
