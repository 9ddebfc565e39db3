//! Names and link targets, checked once at the door.

use std::ffi::{CStr, CString};
use std::fmt;

use crate::Errno;

/// The longest name, in bytes (`NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// The longest symlink target, in bytes (`PATH_MAX` without its NUL).
pub const TARGET_MAX: usize = 4095;

/// One component of a path: never empty, `.` or `..`, without `/` and NUL, at most 255 bytes.
/// Not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(CString);

impl Name {
    /// Checks `bytes`. `ENAMETOOLONG` when it is too long, `EINVAL` for everything else.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(Errno::EINVAL);
        }
        CString::new(bytes).map(Self).map_err(|_| Errno::EINVAL)
    }

    /// The bytes, without the NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// For system calls.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a symlink says. Never resolved on the host; only non-empty, without NUL, and at most
/// [`TARGET_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(CString);

impl Target {
    /// Checks `bytes`: `ENOENT` when empty (as symlink(2)), `ENAMETOOLONG`, or `EINVAL`.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        match bytes.len() {
            0 => Err(Errno::ENOENT),
            1..=TARGET_MAX => CString::new(bytes).map(Self).map_err(|_| Errno::EINVAL),
            _ => Err(Errno::ENAMETOOLONG),
        }
    }

    /// The bytes, without the NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// For system calls.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"/etc", b"a\0", b"\0"] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL), "{bad:?}");
        }
        assert_eq!(Name::new(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn names_need_not_be_text() {
        assert_eq!(Name::new(b"\xff\xfe").unwrap().as_bytes(), b"\xff\xfe");
        assert!(Name::new(&[b'a'; 255]).is_ok());
        assert!(Name::new(b"...").is_ok());
        assert!(Name::new(b"-rf *").is_ok());
    }
}
