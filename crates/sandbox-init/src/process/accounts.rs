//! Users and groups of the guest: passwd(5) and group(5), read by ourselves. The C library's
//! functions load plugins and talk to daemons, which a static PID 1 cannot.
//!
//! The files are the workload's: lines that do not parse are skipped, as the C library does.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

use crate::limits::{MAX_ACCOUNT_FILE, MAX_GROUPS};

/// Who a process runs as, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserSpec {
    user: Key,
    group: Option<Key>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Id(u32),
    Name(String),
}

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups, `gid` first.
    pub(crate) groups: Vec<u32>,
    /// Absolute; "/" when the user has none.
    pub(crate) home: Vec<u8>,
}

/// Why nobody was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    /// No line of /etc/passwd has this name.
    #[error("no user is named {0:?} in /etc/passwd")]
    User(String),
    /// No line of /etc/group has this name.
    #[error("no group is named {0:?} in /etc/group")]
    Group(String),
    /// More than [`MAX_GROUPS`].
    #[error("the user is in more than {MAX_GROUPS} groups")]
    TooManyGroups,
}

impl UserSpec {
    /// Parses "", "name", "uid", "name:group" and the like; `None` when malformed. What consists of
    /// digits is a number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self { user: Key::Id(0), group: None });
        }
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(Key::parse(group)?)),
            None => (text, None),
        };
        Some(Self { user: Key::parse(user)?, group })
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.contains([':', '\n', '\0']) {
            return None;
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return id(text.as_bytes()).map(Self::Id);
        }
        Some(Self::Name(text.to_owned()))
    }

    fn matches(&self, name: &[u8], number: u32) -> bool {
        match self {
            Self::Id(wanted) => *wanted == number,
            Self::Name(wanted) => wanted.as_bytes() == name,
        }
    }
}

struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// Finds who `spec` means. A number without a line in /etc/passwd is a user with the group of the
/// same number, no others, and the home "/". A group that is named replaces all others.
pub(crate) fn resolve(spec: &UserSpec, passwd: &[u8], group: &[u8]) -> Result<Identity, Unknown> {
    let user =
        lines(passwd).filter_map(parse_user).find(|user| spec.user.matches(user.name, user.uid));
    let (name, uid, own_gid, home) = match (&user, &spec.user) {
        (Some(user), _) => (Some(user.name), user.uid, user.gid, user.home),
        (None, Key::Id(uid)) => (None, *uid, *uid, &b"/"[..]),
        (None, Key::Name(name)) => return Err(Unknown::User(name.clone())),
    };
    let gid = match &spec.group {
        None => own_gid,
        Some(Key::Id(gid)) => *gid,
        Some(Key::Name(wanted)) => lines(group)
            .filter_map(parse_group)
            .find(|group| group.name == wanted.as_bytes())
            .map(|group| group.gid)
            .ok_or_else(|| Unknown::Group(wanted.clone()))?,
    };
    let mut groups = vec![gid];
    if let (Some(name), None) = (name, &spec.group) {
        for other in lines(group).filter_map(parse_group) {
            let member = other.members.split(|byte| *byte == b',').any(|member| member == name);
            if member && !groups.contains(&other.gid) {
                groups.push(other.gid);
            }
        }
    }
    if groups.len() > MAX_GROUPS {
        return Err(Unknown::TooManyGroups);
    }
    let home = if home.starts_with(b"/") { home.to_vec() } else { b"/".to_vec() };
    Ok(Identity { uid, gid, groups, home })
}

/// Reads an account file; an absent one is empty. Only a regular file of at most
/// [`MAX_ACCOUNT_FILE`] bytes is read.
pub(crate) fn read_file(path: &str) -> io::Result<Vec<u8>> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut content = Vec::new();
    file.take(MAX_ACCOUNT_FILE as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_ACCOUNT_FILE {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(content)
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').filter(|line| !line.contains(&0))
}

/// name:password:uid:gid:comment:home:shell
fn parse_user(line: &[u8]) -> Option<User<'_>> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    let home = fields.nth(1)?;
    Some(User { name, uid, gid, home })
}

/// name:password:gid:member,member
fn parse_group(line: &[u8]) -> Option<Group<'_>> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1)?)?;
    Some(Group { name, gid, members: fields.next()? })
}

/// A user or group number. 4294967295 means "leave it" to the kernel and is nobody's.
fn id(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken\nbad:x:no:1::/:/bin/sh\n\
        dev:x:1000:1000:Dev,,,:/home/dev:/bin/bash\nlost:x:1001:1001::nowhere:/bin/sh\n";
    const GROUP: &[u8] =
        b"root:x:0:\nwheel:x:10:root,dev\ndev:x:1000:\nbad:x:y:dev\naudio:x:29:dev,lost\n";

    fn who(spec: &str) -> Result<Identity, Unknown> {
        resolve(&UserSpec::parse(spec).unwrap(), PASSWD, GROUP)
    }

    fn identity(uid: u32, groups: &[u32], home: &str) -> Result<Identity, Unknown> {
        Ok(Identity { uid, gid: groups[0], groups: groups.to_vec(), home: home.into() })
    }

    #[test]
    fn user_is_found_by_name_and_by_number_with_all_groups() {
        assert_eq!(who(""), identity(0, &[0, 10], "/root"));
        assert_eq!(who("root"), identity(0, &[0, 10], "/root"));
        assert_eq!(who("dev"), identity(1000, &[1000, 10, 29], "/home/dev"));
        assert_eq!(who("1000"), identity(1000, &[1000, 10, 29], "/home/dev"));
    }

    #[test]
    fn named_group_replaces_all_others() {
        assert_eq!(who("dev:wheel"), identity(1000, &[10], "/home/dev"));
        assert_eq!(who("1000:77"), identity(1000, &[77], "/home/dev"));
        assert_eq!(who("5:audio"), identity(5, &[29], "/"));
    }

    #[test]
    fn number_without_an_account_has_the_group_of_the_same_number() {
        assert_eq!(who("4000"), identity(4000, &[4000], "/"));
    }

    #[test]
    fn home_that_is_not_absolute_becomes_the_root() {
        assert_eq!(who("lost"), identity(1001, &[1001, 29], "/"));
    }

    #[test]
    fn names_without_an_account_are_unknown() {
        assert_eq!(who("nobody"), Err(Unknown::User("nobody".into())));
        assert_eq!(who("bad"), Err(Unknown::User("bad".into())));
        assert_eq!(who("dev:nogroup"), Err(Unknown::Group("nogroup".into())));
    }

    #[test]
    fn malformed_users_are_refused() {
        for wrong in [":", "dev:", ":dev", "a:b:c", "4294967295", "99999999999", "0:4294967295"] {
            assert_eq!(UserSpec::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn group_file_with_too_many_memberships_is_an_error() {
        let group: String = (5000..7000).map(|gid| format!("g{gid}:x:{gid}:dev\n")).collect();
        let spec = UserSpec::parse("dev").unwrap();
        assert_eq!(resolve(&spec, PASSWD, group.as_bytes()), Err(Unknown::TooManyGroups));
    }

    #[test]
    fn file_that_is_absent_is_empty_and_one_that_is_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(read_file(&path("absent")).unwrap(), b"");
        nix::unistd::mkfifo(path("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_file(&path("fifo")).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        std::fs::write(path("large"), vec![b'a'; MAX_ACCOUNT_FILE + 1]).unwrap();
        assert_eq!(read_file(&path("large")).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_user_or_an_error(
            spec in "[a-z0-9:]{0,12}", passwd: Vec<u8>, group: Vec<u8>,
        ) {
            if let Some(spec) = UserSpec::parse(&spec) {
                let _ = resolve(&spec, &passwd, &group);
            }
        }

        #[test]
        fn lines_made_of_the_right_characters_never_give_the_reserved_number(
            passwd in "([ab:0-9/\n,]|4294967295){0,200}", group in "([ab:0-9\n,]|4294967295){0,200}",
        ) {
            for spec in ["a", "b", "a:b", "0"] {
                let found = resolve(&UserSpec::parse(spec).unwrap(), passwd.as_bytes(), group.as_bytes());
                if let Ok(found) = found {
                    prop_assert!(found.uid != u32::MAX && !found.groups.contains(&u32::MAX));
                    prop_assert!(found.home.starts_with(b"/"));
                    prop_assert_eq!(found.groups.first(), Some(&found.gid));
                }
            }
        }
    }
}
