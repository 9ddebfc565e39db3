//! `ConfigureRequest`, checked once into what the steps can use as it is.

use std::ffi::CString;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use protocol::guest::v1::{ConfigureRequest, Mount, RootFilesystem};

use super::network::Network;
use crate::error::Error;
use crate::machine::Environment;
use crate::process::request::{directory, variable};

/// How the machine is to be set up.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The root disk.
    pub(crate) root: Root,
    /// Name of the machine.
    pub(crate) hostname: String,
    /// Time since the Unix epoch.
    pub(crate) time: TimeSpec,
    /// Working directory of processes that name none.
    pub(crate) cwd: CString,
    /// Environment of every process.
    pub(crate) env: Environment,
    /// Filesystems of the host, parents first.
    pub(crate) served: Vec<Served>,
    /// The network; without it there is only the loopback.
    pub(crate) network: Option<Network>,
}

/// A filesystem that the host serves.
#[derive(Debug)]
pub(crate) struct Served {
    /// Tag of its device.
    pub(crate) tag: String,
    /// Where it goes; absolute, in normal form.
    pub(crate) target: String,
    /// The workload may not change it.
    pub(crate) read_only: bool,
    /// Set-id bits have their meaning.
    pub(crate) set_id: bool,
}

/// What becomes "/".
#[derive(Debug)]
pub(crate) struct Root {
    /// Path below /dev.
    pub(crate) device: String,
    /// Filesystem type.
    pub(crate) kind: String,
    /// Mounted read-only.
    pub(crate) read_only: bool,
    /// Blocks of 4 KiB that the disk can take, when that is less than its size.
    pub(crate) capacity_blocks: Option<u64>,
    /// What is freed is discarded.
    pub(crate) discard: bool,
}

impl Settings {
    /// Checks a request.
    pub(crate) fn new(request: ConfigureRequest) -> Result<Self, Error> {
        let root = root(request.root.unwrap_or_default())?;
        if !is_hostname(&request.hostname) {
            return Err(invalid(format!("hostname {:?} is malformed", request.hostname)));
        }
        let cwd = directory(request.cwd)?;
        let mut env = Environment::new();
        for (name, value) in request.env {
            let (name, value) = variable(name, value)?;
            env.insert(name, value);
        }
        let time = timespec(request.time_unix_nanos)?;
        let served = request.mounts.into_iter().map(served).collect::<Result<_, _>>()?;
        let network = request.network.map(Network::new).transpose()?;
        Ok(Self { root, hostname: request.hostname, time, cwd, env, served, network })
    }
}

/// Nanoseconds since the Unix epoch, as the clock takes them. 0 is nobody's time.
pub(crate) fn timespec(nanos: u64) -> Result<TimeSpec, Error> {
    if nanos == 0 {
        return Err(invalid("time_unix_nanos is absent".into()));
    }
    Ok(TimeSpec::from_duration(Duration::from_nanos(nanos)))
}

fn root(root: RootFilesystem) -> Result<Root, Error> {
    let name = root.device.strip_prefix("/dev/").unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(invalid(format!("root.device {:?} is not a device below /dev", root.device)));
    }
    if root.r#type.is_empty() || !root.r#type.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(invalid(format!("root.type {:?} is malformed", root.r#type)));
    }
    let RootFilesystem { device, r#type: kind, read_only, capacity_blocks, discard } = root;
    let capacity_blocks = Some(capacity_blocks).filter(|blocks| *blocks > 0);
    Ok(Root { device, kind, read_only, capacity_blocks, discard })
}

fn served(mount: Mount) -> Result<Served, Error> {
    let Mount { tag, target, read_only, set_id } = mount;
    if tag.is_empty() || tag.len() >= 36 || !tag.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(invalid(format!("mounts.tag {tag:?} is malformed")));
    }
    let plain = |name: &str| !["", ".", ".."].contains(&name);
    let normal = target.strip_prefix('/').is_some_and(|names| names.split('/').all(plain));
    if !normal || target.contains('\0') {
        return Err(invalid(format!("mounts.target {target:?} is not a path in normal form")));
    }
    Ok(Served { tag, target, read_only, set_id })
}

/// Labels of letters, digits and inner dashes, joined by dots, 64 bytes in all (HOST_NAME_MAX).
fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 64 && name.split('.').all(label)
}

fn invalid(text: String) -> Error {
    Error::InvalidRequest(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ConfigureRequest {
        ConfigureRequest {
            root: Some(RootFilesystem {
                device: "/dev/vda".into(),
                r#type: "ext4".into(),
                read_only: true,
                ..RootFilesystem::default()
            }),
            hostname: "sandbox".into(),
            time_unix_nanos: 1_700_000_000_000_000_001,
            cwd: "/".into(),
            env: [("A".to_owned(), "b".to_owned())].into(),
            mounts: vec![Mount {
                tag: "mount0".into(),
                target: "/work/in".into(),
                ..Mount::default()
            }],
            network: None,
        }
    }

    #[test]
    fn sound_request_is_taken_as_it_is() {
        let settings = Settings::new(request()).unwrap();
        assert_eq!(settings.root.device, "/dev/vda");
        assert_eq!(settings.served[0].target, "/work/in");
        assert_eq!(settings.time, TimeSpec::new(1_700_000_000, 1));
        assert_eq!(settings.env.get(c"A").unwrap().as_c_str(), c"b");
    }

    #[test]
    fn request_that_makes_no_sense_is_refused() {
        let with = |change: fn(&mut ConfigureRequest)| {
            let mut request = request();
            change(&mut request);
            Settings::new(request)
        };
        let changes: [fn(&mut ConfigureRequest); 13] = [
            |request| request.root = None,
            |request| request.root.as_mut().unwrap().device = "/dev/../etc".into(),
            |request| request.root.as_mut().unwrap().device = "vda".into(),
            |request| request.root.as_mut().unwrap().r#type = "ext4,ro".into(),
            |request| request.hostname = "no spaces".into(),
            |request| request.time_unix_nanos = 0,
            |request| request.cwd = "tmp".into(),
            |request| request.mounts[0].tag = "a,b".into(),
            |request| request.mounts[0].target = "/".into(),
            |request| request.mounts[0].target = "work".into(),
            |request| request.mounts[0].target = "/work/../etc".into(),
            |request| request.mounts[0].target = "/work/\0".into(),
            |request| drop(request.env.insert("=".into(), String::new())),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert!(matches!(with(change), Err(Error::InvalidRequest(_))), "change {index}");
        }
    }

    #[test]
    fn hostnames_are_labels_joined_by_dots() {
        for good in ["a", "sandbox", "A-1.example.org", &"a".repeat(63)] {
            assert!(is_hostname(good), "{good}");
        }
        for bad in ["", ".", "a.", "-a", "a-", "a_b", "ä", "a\nb", &"a".repeat(64)] {
            assert!(!is_hostname(bad), "{bad}");
        }
    }
}
