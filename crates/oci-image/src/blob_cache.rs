//! Blobs by digest in a folder. One appears there when it is whole and checked; it is checked
//! again whenever it is used, and thrown away when it is damaged.
//!
//! What is being downloaded or unpacked has no name, so that nothing is left of it, however this
//! process ends.

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::hashing::Hashing;

/// A folder of blobs that several processes may share.
#[derive(Debug, Clone)]
pub struct BlobCache {
    folder: PathBuf,
}

impl BlobCache {
    /// The blobs in `folder`, which is made.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("sha256-{}", digest.hex()))
    }

    /// The blob, at its first byte, if it is there and is what its name says.
    pub(crate) fn find(&self, digest: &Digest, size: Option<u64>) -> Result<Option<File>> {
        let path = self.path_of(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("open", &path)(error)),
        };
        let length = file.metadata().map_err(Error::file("read", &path))?.len();
        let mut hashing = Hashing::new(&mut file, length);
        let sound = size.is_none_or(|size| size == length)
            && io::copy(&mut hashing, &mut io::sink()).is_ok()
            && hashing.digest() == *digest;
        if !sound {
            std::fs::remove_file(&path).map_err(Error::file("remove the damaged", &path))?;
            return Ok(None);
        }
        file.rewind().map_err(Error::file("read", &path))?;
        Ok(Some(file))
    }

    /// A file without a name, for what is downloaded or unpacked.
    pub(crate) fn scratch(&self) -> Result<File> {
        tempfile::tempfile_in(&self.folder).map_err(Error::file("make a file in", &self.folder))
    }

    /// Keep a file whose bytes were checked; it is at its first byte then.
    pub(crate) fn keep(&self, digest: &Digest, mut file: File) -> Result<File> {
        let path = self.path_of(digest);
        file.sync_all().map_err(Error::file("write", &path))?;
        if give_name(&file, &path).is_err() {
            self.keep_copy(&mut file, &path).map_err(Error::file("write", &path))?;
        }
        file.rewind().map_err(Error::file("read", &path))?;
        Ok(file)
    }

    /// For filesystems whose files have a name from the beginning.
    fn keep_copy(&self, file: &mut File, path: &Path) -> io::Result<()> {
        file.rewind()?;
        let mut copy = tempfile::NamedTempFile::new_in(&self.folder)?;
        io::copy(file, &mut copy)?;
        copy.as_file().sync_all()?;
        copy.persist(path)?;
        Ok(())
    }
}

/// open(2), `O_TMPFILE`.
#[cfg(target_os = "linux")]
fn give_name(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};

    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        // Another process was quicker, and checked the same bytes.
        Err(rustix::io::Errno::EXIST) => Ok(()),
        outcome => Ok(outcome?),
    }
}

#[cfg(not(target_os = "linux"))]
fn give_name(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_damaged_blob_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(folder.path()).unwrap();
        let digest = Digest::of(b"abc");
        assert!(cache.find(&digest, Some(3)).unwrap().is_none());
        for _ in 0..2 {
            let mut file = cache.scratch().unwrap();
            file.write_all(b"abc").unwrap();
            assert_eq!(text(cache.keep(&digest, file).unwrap()), "abc");
        }
        assert_eq!(text(cache.find(&digest, Some(3)).unwrap().unwrap()), "abc");
        std::fs::write(cache.path_of(&digest), "abd").unwrap();
        assert!(cache.find(&digest, Some(3)).unwrap().is_none());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_is_not_finished_never_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(folder.path()).unwrap();
        let mut file = cache.scratch().unwrap();
        file.write_all(b"abc").unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_copy_does_where_a_name_cannot_be_given() {
        let folder = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(folder.path()).unwrap();
        let mut file = cache.scratch().unwrap();
        file.write_all(b"abc").unwrap();
        cache.keep_copy(&mut file, &folder.path().join("copy")).unwrap();
        assert_eq!(names(folder.path()), ["copy"]);
    }
}
