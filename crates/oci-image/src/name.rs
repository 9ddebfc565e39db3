//! The names in a layer's archive. Each is a path below the image's root or it is refused; no
//! name of an archive is ever given to this machine's kernel.

use crate::shown::shown;

/// `PATH_MAX` and `NAME_MAX` of Linux.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;

/// Why a name cannot be one inside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// It begins with a slash.
    #[error("the name is absolute")]
    Absolute,
    /// It has `..` in it.
    #[error("the name leads upwards")]
    Climbs,
    /// A path of more than 4,095 bytes or a part of more than 255.
    #[error("the name is too long")]
    TooLong,
    /// It has a NUL in it.
    #[error("the name has a NUL byte")]
    Nul,
    /// The filesystem's writer takes text.
    #[error("the name is not UTF-8")]
    NotUtf8,
    /// It names nothing.
    #[error("the name is empty")]
    Empty,
}

/// `./a//b/` and `a/b` become `a/b`; `.` and `./` become the root, an empty text.
pub(crate) fn path_of(raw: &[u8]) -> Result<String, NameProblem> {
    if raw.is_empty() {
        return Err(NameProblem::Empty);
    }
    if raw[0] == b'/' {
        return Err(NameProblem::Absolute);
    }
    if raw.contains(&0) {
        return Err(NameProblem::Nul);
    }
    let text = std::str::from_utf8(raw).map_err(|_| NameProblem::NotUtf8)?;
    let mut path = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            return Err(NameProblem::Climbs);
        }
        if part.len() > MAX_NAME {
            return Err(NameProblem::TooLong);
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    if path.len() > MAX_PATH {
        return Err(NameProblem::TooLong);
    }
    Ok(path)
}

/// What a symbolic link may hold: any text, for the guest alone reads it.
pub(crate) fn target_of(raw: &[u8]) -> Result<String, NameProblem> {
    let text = std::str::from_utf8(raw).map_err(|_| NameProblem::NotUtf8)?;
    match text {
        "" => Err(NameProblem::Empty),
        text if text.contains('\0') => Err(NameProblem::Nul),
        text if text.len() > MAX_PATH => Err(NameProblem::TooLong),
        text => Ok(text.to_owned()),
    }
}

/// The directory that holds `path`; the root has none.
pub(crate) fn parent_of(path: &str) -> Option<&str> {
    (!path.is_empty()).then(|| path.rfind('/').map_or("", |slash| &path[..slash]))
}

/// The last part of a path.
pub(crate) fn last_of(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// As it may stand in a message.
pub(crate) fn shown_name(raw: &[u8]) -> String {
    shown(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root_or_are_refused() {
        for (raw, expected) in [
            (&b"a/b"[..], Ok("a/b")),
            (b"./a//./b/", Ok("a/b")),
            (b".", Ok("")),
            (b"./", Ok("")),
            (b"..a/...", Ok("..a/...")),
            (b"/etc/passwd", Err(NameProblem::Absolute)),
            (b"//etc", Err(NameProblem::Absolute)),
            (b"../a", Err(NameProblem::Climbs)),
            (b"a/../../b", Err(NameProblem::Climbs)),
            (b"a/..", Err(NameProblem::Climbs)),
            (b"a\0b", Err(NameProblem::Nul)),
            (b"\xff", Err(NameProblem::NotUtf8)),
            (b"", Err(NameProblem::Empty)),
            (&[b'a'; 256], Err(NameProblem::TooLong)),
        ] {
            assert_eq!(path_of(raw), expected.map(str::to_owned), "{}", shown_name(raw));
        }
        assert_eq!(path_of("a/".repeat(3000).as_bytes()), Err(NameProblem::TooLong));
    }
}
