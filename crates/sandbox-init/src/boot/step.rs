//! The names of the boot steps, and how one fails.

use std::io;

use nix::errno::Errno;

use crate::error::Error;

/// The steps of `Configure`, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sets the clock.
    Clock,
    /// Waits for the root disk, and checks it when it was not shut down cleanly.
    CheckRoot,
    /// Mounts the root disk.
    MountRoot,
    /// Makes the mounted root "/", with /dev, /proc and /sys moved into it; the initramfs is gone.
    EnterRoot,
    /// Completes /dev: pts, shm, mqueue, links.
    MountDevices,
    /// cgroup2 and the workload's cgroup.
    MountCgroup,
    /// /tmp, /run, and /mnt when the root is read-only.
    MountTmpfs,
    /// The machine's name.
    Hostname,
    /// /etc/hosts and /etc/hostname.
    Hosts,
    /// Brings the loopback interface up.
    Loopback,
    /// The network interface, with its addresses and routes.
    Network,
    /// /etc/resolv.conf.
    Resolver,
    /// Whom programs believe.
    CertificateAuthority,
    /// Kernel settings and resource limits.
    Limits,
    /// Filesystems of the host.
    Mounts,
    /// Checks that the lane's working directory is there.
    WorkingDirectory,
}

impl Step {
    /// As `StepStarted.name` and `ErrorDetail.step` carry it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::CheckRoot => "check-root",
            Self::MountRoot => "mount-root",
            Self::EnterRoot => "enter-root",
            Self::MountDevices => "mount-devices",
            Self::MountCgroup => "mount-cgroup",
            Self::MountTmpfs => "mount-tmpfs",
            Self::Hostname => "hostname",
            Self::Hosts => "hosts",
            Self::Loopback => "loopback",
            Self::Network => "network",
            Self::Resolver => "resolver",
            Self::CertificateAuthority => "certificate-authority",
            Self::Limits => "limits",
            Self::Mounts => "mounts",
            Self::WorkingDirectory => "working-directory",
        }
    }
}

/// Why a step failed: what was tried, and what the system said if it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    errno: Option<Errno>,
}

impl Failure {
    /// Something is not as it has to be.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), errno: None }
    }

    /// What the system said.
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.errno
    }

    /// The error of the call that `step` belongs to.
    pub(crate) fn of(self, step: Step) -> Error {
        Error::Step { step: step.name(), errno: self.errno, message: self.message }
    }
}

/// Adds what was tried to the system's error.
pub(crate) trait While<T> {
    /// `what` as in "Mounting /dev/vda on /".
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> While<T> for nix::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            message: format!("{}: {}", what(), errno.desc()),
            errno: Some(errno),
        })
    }
}

impl<T> While<T> for io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => match error.raw_os_error() {
                Some(raw) => Err(Errno::from_raw(raw)).during(what),
                None => Err(Failure::new(format!("{}: {error}", what()))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_says_what_was_tried_and_keeps_the_errno() {
        let failure = std::fs::read("/no/such/file").during(|| "Reading".into()).unwrap_err();
        assert_eq!(failure.to_string(), "Reading: No such file or directory");
        let Error::Step { step, errno, .. } = failure.of(Step::Hosts) else { panic!("wrong kind") };
        assert_eq!((step, errno), ("hosts", Some(Errno::ENOENT)));
    }
}
