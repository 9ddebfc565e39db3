//! Paths that a process is granted, as arguments of its command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What can be done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A file, or a directory with all in it, is read.
    Read,
    /// The same by the engine's process too.
    Engine,
    /// A file, or a directory with all in it, is read and changed.
    Write,
    /// A file is read and changed; it is made where it is not there.
    Create,
    /// A socket is made there, and removed.
    Socket,
}

/// A path, and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What can be done.
    pub access: Access,
    /// Where; absolute and without "..".
    pub path: PathBuf,
}

/// A malformed grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "A grant is {given:?}, but it must be read:, engine:, write: or create: and an absolute path \
     without \"..\""
)]
pub struct GrantError {
    given: OsString,
}

impl Grant {
    /// A grant from the program itself.
    #[must_use]
    pub fn new(access: Access, path: impl Into<PathBuf>) -> Self {
        Self { access, path: path.into() }
    }

    /// Reads `access:path`.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn parse(given: &OsStr) -> Result<Self, GrantError> {
        let malformed = || GrantError { given: given.to_owned() };
        let bytes = given.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':').ok_or_else(malformed)?;
        let access = match &bytes[..colon] {
            b"read" => Access::Read,
            b"engine" => Access::Engine,
            b"write" => Access::Write,
            b"create" => Access::Create,
            _ => return Err(malformed()),
        };
        let path = Path::new(OsStr::from_bytes(&bytes[colon + 1..]));
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(malformed());
        }
        Ok(Self { access, path: path.to_owned() })
    }

    /// Whether this grant is enough to do that to `path`. Looks at names alone.
    #[must_use]
    pub fn covers(&self, access: Access, path: &Path) -> bool {
        let plain = !path.components().any(|part| part == Component::ParentDir);
        let allowed = match access {
            Access::Read => self.access != Access::Socket,
            Access::Engine | Access::Socket => self.access == access,
            Access::Write => matches!(self.access, Access::Write | Access::Create),
            Access::Create => self.access == Access::Create,
        };
        plain && allowed && path.starts_with(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Grant, GrantError> {
        Grant::parse(OsStr::new(text))
    }

    #[test]
    fn kind_and_path_are_read_and_colons_belong_to_the_path() {
        assert_eq!(parsed("read:/a:b"), Ok(Grant::new(Access::Read, "/a:b")));
        assert_eq!(parsed("engine:/k"), Ok(Grant::new(Access::Engine, "/k")));
        assert_eq!(parsed("write:/d"), Ok(Grant::new(Access::Write, "/d")));
        assert_eq!(parsed("create:/f"), Ok(Grant::new(Access::Create, "/f")));
        let long = format!("read:/{}", "x/".repeat(2000));
        assert!(parsed(&long).is_ok());
    }

    #[test]
    fn what_is_no_grant_is_refused_and_shown() {
        for bad in ["", "/a", "read", "read:", "read:a", "read:/a/../b", "exec:/a", "READ:/a"] {
            assert!(parsed(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn a_grant_covers_what_is_below_it_and_no_more_than_it_says() {
        let read = Grant::new(Access::Read, "/data/in");
        assert!(read.covers(Access::Read, Path::new("/data/in/x")));
        assert!(read.covers(Access::Read, Path::new("/data/in")));
        assert!(!read.covers(Access::Read, Path::new("/data/inside")));
        assert!(!read.covers(Access::Read, Path::new("/data/in/../out")));
        assert!(!read.covers(Access::Write, Path::new("/data/in/x")));
        let write = Grant::new(Access::Write, "/data");
        assert!(write.covers(Access::Read, Path::new("/data/x")));
        assert!(write.covers(Access::Write, Path::new("/data/x")));
        assert!(!write.covers(Access::Create, Path::new("/data/x")));
        assert!(!write.covers(Access::Engine, Path::new("/data/x")));
    }
}
