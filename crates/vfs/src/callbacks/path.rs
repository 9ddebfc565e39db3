//! Where a file is in the mount.

use std::fmt;

use crate::Name;

/// Linux' PATH_MAX.
const WRITTEN_MAX: usize = 4096;

/// An absolute path below the mount's root; bytes, not necessarily UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePath(Vec<u8>);

impl FilePath {
    /// `/`
    #[must_use]
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// A path as somebody else wrote it: absolute, no name empty, `.`, `..` or too long, at most
    /// 4,096 bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"/")?;
        if bytes.len() > WRITTEN_MAX {
            return None;
        }
        let sound = |name: &[u8]| Name::new(name).is_ok();
        let good = rest.is_empty() || rest.split(|byte| *byte == b'/').all(sound);
        good.then(|| Self(bytes.to_vec()))
    }

    /// The entry `name` of this directory.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut bytes = self.0.clone();
        if bytes != b"/" {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// From the names on the way, the root's entry first.
    pub(super) fn of_names<'a>(names: impl Iterator<Item = &'a Name>) -> Self {
        let mut bytes = Vec::new();
        for name in names {
            bytes.push(b'/');
            bytes.extend_from_slice(name.as_bytes());
        }
        if bytes.is_empty() { Self::root() } else { Self(bytes) }
    }

    /// The whole path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names on the way; none for the root.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Whether `other` is this or lies below it.
    #[must_use]
    pub fn contains(&self, other: &FilePath) -> bool {
        self.0 == b"/"
            || other.0 == self.0
            || (other.0.starts_with(&self.0) && other.0.get(self.0.len()) == Some(&b'/'))
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_absolute_paths_are_taken() {
        for good in [&b"/"[..], b"/a", b"/a/b c", b"/\xff"] {
            assert_eq!(FilePath::new(good).unwrap().as_bytes(), good);
        }
        let long = [&b"/"[..], &[b'a'; 256]].concat();
        let bad: [&[u8]; 9] =
            [b"", b"a", b"/a/", b"//", b"/.", b"/a/../b", b"/a//b", b"/\0", &long];
        for bad in bad {
            assert_eq!(FilePath::new(bad), None, "{bad:?}");
        }
        assert_eq!(FilePath::new(&b"/abc".repeat(1025)), None);
    }

    #[test]
    fn paths_contain_what_is_below_them_and_not_what_is_named_alike() {
        let name = |name: &[u8]| Name::new(name).unwrap();
        let a = FilePath::root().join(&name(b"a"));
        assert_eq!(a.as_bytes(), b"/a");
        assert_eq!(a.join(&name(b"b")).as_bytes(), b"/a/b");
        assert!(a.contains(&a.join(&name(b"b"))) && a.contains(&a));
        assert!(FilePath::root().contains(&a) && !a.contains(&FilePath::root()));
        assert!(!a.contains(&FilePath::root().join(&name(b"ab"))));
        assert_eq!(FilePath::of_names([name(b"a"), name(b"b")].iter()).as_bytes(), b"/a/b");
    }
}
