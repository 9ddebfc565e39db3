//! Error numbers as the guest knows them: those of Linux, whatever the host is.

use std::fmt;

/// A Linux error number: what a request ends with when it fails.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[allow(missing_docs, reason = "the names are those of errno(3)")]
        impl Errno {
            $(pub const $name: Errno = Errno($number);)*
        }
        const NAMES: &[(&str, i32)] = &[$((stringify!($name), $number)),*];
    };
}

// include/uapi/asm-generic/errno-base.h and errno.h
errnos! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, ENOEXEC = 8,
    EBADF = 9, ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EFAULT = 14, ENOTBLK = 15,
    EBUSY = 16, EEXIST = 17, EXDEV = 18, ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22,
    ENFILE = 23, EMFILE = 24, ENOTTY = 25, ETXTBSY = 26, EFBIG = 27, ENOSPC = 28, ESPIPE = 29,
    EROFS = 30, EMLINK = 31, EPIPE = 32, EDOM = 33, ERANGE = 34, EDEADLK = 35,
    ENAMETOOLONG = 36, ENOLCK = 37, ENOSYS = 38, ENOTEMPTY = 39, ELOOP = 40, ENODATA = 61,
    ETIME = 62, ENOLINK = 67, EPROTO = 71, EBADMSG = 74, EOVERFLOW = 75, EILSEQ = 84,
    EUSERS = 87, EOPNOTSUPP = 95, ENETUNREACH = 101, ECONNABORTED = 103, ECONNRESET = 104,
    ETIMEDOUT = 110, ECONNREFUSED = 111, EHOSTUNREACH = 113, EALREADY = 114, EINPROGRESS = 115,
    ESTALE = 116, EREMOTEIO = 121, EDQUOT = 122, ECANCELED = 125, EKEYEXPIRED = 127,
}

impl Errno {
    /// The number, if it is one the kernel accepts from a filesystem (1 to 511).
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        (1..512).contains(&number).then_some(Self(number))
    }

    /// The number behind a name such as `ENOENT`; `None` for a name Linux does not have.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = match name {
            "ENOTSUP" => "EOPNOTSUPP",
            "EWOULDBLOCK" => "EAGAIN",
            "ENOATTR" => "ENODATA",
            other => other,
        };
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Self(*number))
    }

    /// The positive number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// The name, or `None` for a number without one here.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

#[cfg(target_os = "linux")]
impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::from_number(errno.raw_os_error()).unwrap_or(Self::EIO)
    }
}

#[cfg(target_os = "linux")]
impl From<nix::errno::Errno> for Errno {
    fn from(errno: nix::errno::Errno) -> Self {
        Self::from_number(errno as i32).unwrap_or(Self::EIO)
    }
}

#[cfg(target_os = "linux")]
impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().and_then(Self::from_number).unwrap_or(Self::EIO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_the_host_kernel() {
        for (name, number) in NAMES {
            let errno = Errno::from_name(name).unwrap();
            assert_eq!(errno.number(), *number);
            assert_eq!(errno.name(), Some(*name));
        }
        assert_eq!(Errno::ESTALE.number(), libc::ESTALE);
        assert_eq!(Errno::EOPNOTSUPP.number(), libc::EOPNOTSUPP);
    }

    #[test]
    fn what_linux_does_not_know_is_not_an_errno() {
        assert_eq!(Errno::from_name("EWHATEVER"), None);
        assert_eq!(Errno::from_number(0), None);
        assert_eq!(Errno::from_number(-2), None);
        assert_eq!(Errno::from_number(512), None);
    }
}
