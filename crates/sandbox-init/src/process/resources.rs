//! Resource limits by their names: setrlimit(2).

use nix::sys::resource::{RLIM_INFINITY, Resource, rlim_t, setrlimit};
use protocol::v1;

use crate::error::Error;

const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    resource: Resource,
    soft: rlim_t,
    hard: rlim_t,
}

impl Limit {
    /// Checks a limit.
    pub(crate) fn new(limit: &v1::ResourceLimit) -> Result<Self, Error> {
        let invalid =
            |text: &str| Err(Error::InvalidRequest(format!("limits: {:?} {text}", limit.name)));
        let Some((_, resource)) = NAMES.iter().find(|(name, _)| *name == limit.name) else {
            return invalid("is not the name of a resource limit");
        };
        let soft = limit.soft.unwrap_or(RLIM_INFINITY);
        let hard = limit.hard.unwrap_or(RLIM_INFINITY);
        if soft > hard {
            return invalid("has a soft limit above the hard one");
        }
        Ok(Self { resource: *resource, soft, hard })
    }

    /// Sets it for the caller, in a child.
    pub(crate) fn set(self) -> nix::Result<()> {
        setrlimit(self.resource, self.soft, self.hard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_known_names_and_keep_their_order() {
        let limit = |name: &str, soft, hard| {
            Limit::new(&v1::ResourceLimit { name: name.into(), soft, hard })
        };
        let good = limit("nofile", Some(5), None).unwrap();
        assert_eq!((good.soft, good.hard), (5, RLIM_INFINITY));
        for (name, soft, hard) in [
            ("NOFILE", None, None),
            ("", None, None),
            ("as", None, Some(1)),
            ("as", Some(2), Some(1)),
        ] {
            assert!(matches!(limit(name, soft, hard), Err(Error::InvalidRequest(_))), "{name}");
        }
    }
}
