//! FUSE_INIT: what the guest offers, what is accepted, and what both then live by.

use super::abi::{self, init};
use super::reply::Encoder;
use super::request::Offer;
use super::{MAX_PAGES, MAX_WRITE};
use crate::{Errno, Profile};

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The guest's minor version, or ours where that is older.
    pub minor: u32,
    /// The flags both have.
    pub flags: u64,
    /// The longest write, in bytes.
    pub max_write: u32,
    /// The longest request, in pages.
    pub max_pages: u16,
    /// In bytes.
    pub max_readahead: u32,
}

/// The answer to an offer. A newer major version is answered with ours, and the guest asks again
/// with it; an older protocol than 7.28 is `EPROTO`.
pub(super) fn negotiate(offer: &Offer, profile: &Profile) -> Result<Option<Agreement>, Errno> {
    if offer.major > abi::KERNEL_VERSION {
        return Ok(None);
    }
    if offer.major < abi::KERNEL_VERSION || offer.minor < abi::OLDEST_MINOR_VERSION {
        return Err(Errno::EPROTO);
    }
    let flags = offer.flags & wanted(profile);
    let large = flags & init::MAX_PAGES != 0;
    Ok(Some(Agreement {
        minor: offer.minor.min(abi::KERNEL_MINOR_VERSION),
        flags,
        // Without FUSE_MAX_PAGES a request has at most 32 pages.
        max_write: if large { MAX_WRITE } else { 128 * 1024 },
        max_pages: if large { MAX_PAGES } else { 0 },
        max_readahead: offer.max_readahead.min(MAX_WRITE),
    }))
}

/// Only what is served. Left out on purpose: `DONT_MASK` and `POSIX_ACL` (the guest's kernel
/// applies the umask, and there are no ACLs), `EXPORT_SUPPORT` (no `.` and `..` lookups),
/// `NO_OPEN_SUPPORT` (every open has a handle), DAX, `SETXATTR_EXT`, and `ATOMIC_O_TRUNC`: with it
/// the kernel has a file truncated before it finds that a program runs from it (ETXTBSY).
fn wanted(profile: &Profile) -> u64 {
    let mut flags = init::ASYNC_READ
        | init::BIG_WRITES
        | init::ASYNC_DIO
        | init::PARALLEL_DIROPS
        | init::ABORT_ERROR
        | init::MAX_PAGES
        | init::HANDLE_KILLPRIV_V2
        | init::INIT_EXT;
    let mut when = |wanted: bool, bits: u64| {
        if wanted {
            flags |= bits;
        }
    };
    when(profile.posix_locks, init::POSIX_LOCKS);
    when(profile.flock, init::FLOCK_LOCKS);
    when(profile.write_back, init::WRITEBACK_CACHE);
    // With write-back the guest's idea of size and times is the right one.
    when(!profile.write_back && !profile.data_by_open, init::AUTO_INVAL_DATA);
    when(profile.entries_with_readdir, init::DO_READDIRPLUS | init::READDIRPLUS_AUTO);
    when(profile.cache_symlinks, init::CACHE_SYMLINKS);
    flags
}

/// `fuse_init_out`.
#[allow(clippy::cast_possible_truncation, reason = "the flags travel in two halves")]
pub(super) fn encode(agreement: Option<&Agreement>, profile: &Profile) -> Vec<u8> {
    let mut out = Encoder::with_capacity(abi::INIT_OUT_SIZE);
    out.u32(abi::KERNEL_VERSION);
    match agreement {
        None => out.u32(abi::KERNEL_MINOR_VERSION).raw(&[0; abi::INIT_OUT_SIZE - 8]),
        Some(agreed) => {
            out.u32(agreed.minor).u32(agreed.max_readahead).u32(agreed.flags as u32);
            // At most this many read-ahead and write-back requests at a time.
            out.u16(BACKGROUND_MAX).u16(BACKGROUND_MAX / 4 * 3);
            out.u32(agreed.max_write).u32(profile.time_granularity);
            out.u16(agreed.max_pages).u16(0);
            out.u32((agreed.flags >> 32) as u32).raw(&[0; 28])
        }
    };
    out.finish()
}

const BACKGROUND_MAX: u16 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX_6_1: Offer =
        Offer { major: 7, minor: 37, max_readahead: 128 * 1024, flags: u64::MAX };

    #[test]
    fn only_what_was_offered_is_agreed_on() {
        let offer = Offer { flags: init::BIG_WRITES, ..LINUX_6_1 };
        let agreed = negotiate(&offer, &Profile::default()).unwrap().unwrap();
        assert_eq!(agreed.flags, init::BIG_WRITES);
        assert_eq!((agreed.max_write, agreed.max_pages), (128 * 1024, 0));
    }

    #[test]
    fn a_modern_kernel_gets_large_requests_and_no_acls() {
        let agreed = negotiate(&LINUX_6_1, &Profile::default()).unwrap().unwrap();
        assert_eq!((agreed.max_write, agreed.max_pages), (1024 * 1024, 256));
        assert_eq!(agreed.minor, 37);
        for (refused, name) in [(6, "DONT_MASK"), (4, "EXPORT"), (20, "ACL"), (33, "DAX")] {
            assert_eq!(agreed.flags & (1 << refused), 0, "{name}");
        }
        assert_eq!(encode(Some(&agreed), &Profile::default()).len(), abi::INIT_OUT_SIZE);
    }

    #[test]
    fn write_back_and_invalidation_by_size_exclude_each_other() {
        let profile = Profile { write_back: true, ..Profile::default() };
        let agreed = negotiate(&LINUX_6_1, &profile).unwrap().unwrap();
        assert_ne!(agreed.flags & init::WRITEBACK_CACHE, 0);
        assert_eq!(agreed.flags & init::AUTO_INVAL_DATA, 0);
    }

    #[test]
    fn data_that_is_settled_by_open_is_not_asked_about_at_each_read() {
        let profile = Profile { data_by_open: true, ..Profile::default() };
        let agreed = negotiate(&LINUX_6_1, &profile).unwrap().unwrap();
        assert_eq!(agreed.flags & init::AUTO_INVAL_DATA, 0);
        let agreed = negotiate(&LINUX_6_1, &Profile::default()).unwrap().unwrap();
        assert_ne!(agreed.flags & init::AUTO_INVAL_DATA, 0);
    }

    #[test]
    fn versions_that_do_not_fit_are_answered_as_the_protocol_says() {
        let newer = Offer { major: 8, ..LINUX_6_1 };
        assert_eq!(negotiate(&newer, &Profile::default()), Ok(None));
        assert_eq!(encode(None, &Profile::default())[..4], 7_u32.to_le_bytes());
        for (major, minor) in [(6, 99), (7, 0), (7, 27)] {
            let older = Offer { major, minor, ..LINUX_6_1 };
            assert_eq!(negotiate(&older, &Profile::default()), Err(Errno::EPROTO));
        }
    }
}
