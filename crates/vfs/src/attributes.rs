//! What a file is: its kind, its attributes, what a caller wants changed in them, and how long a
//! guest may believe them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A node as the guest names it: 1 is the root, 0 is none. Never reused while a server lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(pub u64);

impl Inode {
    /// The root of the mount (`FUSE_ROOT_ID`).
    pub const ROOT: Inode = Inode(1);
    /// In an entry: there is no such name, and the guest may remember that.
    pub const NONE: Inode = Inode(0);
}

/// An open file or directory as the guest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// Type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// The `S_IFMT` bits.
    #[must_use]
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::Fifo => 0o010_000,
            Kind::CharDevice => 0o020_000,
            Kind::Directory => 0o040_000,
            Kind::BlockDevice => 0o060_000,
            Kind::File => 0o100_000,
            Kind::Symlink => 0o120_000,
            Kind::Socket => 0o140_000,
        }
    }

    /// From the `S_IFMT` bits of a mode; `None` for a combination that names no type.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o010_000 => Kind::Fifo,
            0o020_000 => Kind::CharDevice,
            0o040_000 => Kind::Directory,
            0o060_000 => Kind::BlockDevice,
            0o100_000 => Kind::File,
            0o120_000 => Kind::Symlink,
            0o140_000 => Kind::Socket,
            _ => return None,
        })
    }

    /// The type as readdir tells it (`DT_*`).
    #[must_use]
    pub fn dirent_type(self) -> u32 {
        self.mode_bits() >> 12
    }
}

/// A moment: seconds since 1970, possibly before it, and nanoseconds below one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl Time {
    /// From milliseconds since 1970, as JavaScript counts them; fractions are kept.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the fraction lies in 0..1000; `as` saturates what a Date could not hold"
    )]
    pub fn from_millis(millis: f64) -> Self {
        let seconds = (millis / 1000.0).floor();
        let nanos = ((millis - seconds * 1000.0) * 1e6).round() as u32;
        Self { seconds: seconds as i64, nanos: nanos.min(999_999_999) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a double holds milliseconds of any real date")]
    pub fn as_millis(self) -> f64 {
        self.seconds as f64 * 1000.0 + f64::from(self.nanos) / 1e6
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self {
                seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                nanos: since.subsec_nanos(),
            },
            Err(before) => {
                let before = before.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { seconds, nanos: 0 },
                    nanos => Self { seconds: seconds - 1, nanos: 1_000_000_000 - nanos },
                }
            }
        }
    }
}

/// Everything stat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of stat(2)")]
pub struct Attr {
    /// The number the guest's programs see; two names of one file have the same.
    pub ino: u64,
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits, without the type.
    pub permissions: u32,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub block_size: u32,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

/// Answer to a lookup and to everything that makes a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// [`Inode::NONE`]: no such name, to be remembered for `entry_ttl`. Otherwise the filesystem
    /// has counted one lookup for it.
    pub inode: Inode,
    /// Meaningless when `inode` is none.
    pub attr: Attr,
    /// How long the guest may believe `attr`.
    pub attr_ttl: Duration,
    /// How long the guest may believe that the name leads here.
    pub entry_ttl: Duration,
}

impl Entry {
    /// "There is no such name, and there will be none for `ttl`."
    #[must_use]
    pub fn absent(ttl: Duration) -> Self {
        let epoch = Time::default();
        Self {
            inode: Inode::NONE,
            attr: Attr {
                ino: 0,
                kind: Kind::File,
                permissions: 0,
                size: 0,
                blocks: 0,
                nlink: 0,
                uid: 0,
                gid: 0,
                rdev: 0,
                block_size: 0,
                accessed: epoch,
                modified: epoch,
                changed: epoch,
            },
            attr_ttl: Duration::ZERO,
            entry_ttl: ttl,
        }
    }
}

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// To the moment the request is served.
    Now,
    /// To this moment.
    To(Time),
}

/// What a SETATTR asks for; all of it or an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of stat(2)")]
pub struct Changes {
    /// Permission bits with set-id and sticky bits, without the type.
    pub permissions: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
    /// Clear set-user-id, and set-group-id where the group may execute.
    pub drop_set_id: bool,
}

/// What statfs tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of statfs(2)")]
pub struct StatFs {
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub block_size: u32,
    pub fragment_size: u32,
    pub name_max: u32,
}

/// How long a guest may keep what it learnt, since nothing can call it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTimes {
    /// That a name leads to a node.
    pub entry: Duration,
    /// That a name does not exist. Zero: never.
    pub absence: Duration,
    /// Attributes.
    pub attr: Duration,
}

impl CacheTimes {
    /// Nothing is kept: every call asks again.
    pub const NONE: CacheTimes =
        CacheTimes { entry: Duration::ZERO, absence: Duration::ZERO, attr: Duration::ZERO };

    /// One time for names and attributes; absence is not remembered.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Self { entry: time, absence: Duration::ZERO, attr: time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_the_way_there_and_back_also_before_1970() {
        for millis in [0.0, 1.5, 1_700_000_000_123.0, -1.0, -1500.0] {
            let time = Time::from_millis(millis);
            assert!(time.nanos < 1_000_000_000);
            assert!((time.as_millis() - millis).abs() < 1e-3, "{millis}");
        }
        assert_eq!(Time::from_millis(-0.5), Time { seconds: -1, nanos: 999_500_000 });
    }

    #[test]
    fn system_times_before_1970_round_down() {
        let time = UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(Time::from(time), Time { seconds: -1, nanos: 999_000_000 });
    }

    #[test]
    fn kinds_and_mode_bits_are_one_to_one() {
        for kind in [
            Kind::File,
            Kind::Directory,
            Kind::Symlink,
            Kind::Fifo,
            Kind::Socket,
            Kind::CharDevice,
            Kind::BlockDevice,
        ] {
            assert_eq!(Kind::from_mode(kind.mode_bits() | 0o7777), Some(kind));
        }
        assert_eq!(Kind::from_mode(0o170_000), None);
        assert_eq!(Kind::from_mode(0), None);
    }
}
