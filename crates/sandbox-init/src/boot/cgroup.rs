//! cgroup v2: the hierarchy, and the one group that every process of the lane starts in. Read
//! Documentation/admin-guide/cgroup-v2.rst of Linux.
//!
//! PID 1 stays in the root group. The workload's `memory.max` and `pids.max` leave it (and the
//! kernel) a reserve, so that it can still act when the workload takes everything: see
//! [`MEMORY_RESERVE`] and [`PIDS_RESERVE`]. Root in the guest may move processes elsewhere, as on
//! any Linux (Docker does); a shutdown therefore also signals everything that is not in the group.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::files;
use super::mounts::{self, Mount};
use super::step::{Failure, While};
use crate::limits::{MEMORY_RESERVE, PIDS_RESERVE};

const ROOT: &str = "/sys/fs/cgroup";
const GROUP: &str = "/sys/fs/cgroup/workload";

/// The workload's group.
#[derive(Debug)]
pub(crate) struct Workload {
    directory: Mutex<OwnedFd>,
}

/// Mounts the hierarchy, with every controller on, and makes the group.
pub(crate) fn mount() -> Result<Workload, Failure> {
    mounts::mount(&Mount::CGROUP)?;
    let controllers = format!("{ROOT}/cgroup.controllers");
    let controllers =
        std::fs::read_to_string(&controllers).during(|| format!("Reading {controllers}"))?;
    let all: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    files::set(&format!("{ROOT}/cgroup.subtree_control"), &all.join(" "))?;
    Ok(Workload { directory: Mutex::new(make()?) })
}

fn make() -> Result<OwnedFd, Failure> {
    mounts::make_directory(GROUP)?;
    let memory = memory_limit(memory_total()?);
    files::set(&format!("{GROUP}/memory.max"), &memory.to_string())?;
    let kernel = files::number("/proc/sys/kernel/threads-max")?
        .min(files::number("/proc/sys/kernel/pid_max")?);
    files::set(&format!("{GROUP}/pids.max"), &pids_limit(kernel).to_string())?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(GROUP, flags, Mode::empty()).during(|| format!("Opening {GROUP}"))
}

impl Workload {
    /// Calls `start` with the group's directory. When root in the guest has removed the (empty)
    /// group it is made again, once.
    pub(crate) fn with_directory<T>(
        &self,
        mut start: impl FnMut(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> nix::Result<T> {
        // A directory is replaced as a whole.
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        match start(directory.as_fd()) {
            Err(Errno::ENODEV | Errno::ENOENT) => {
                *directory = make().map_err(|failure| failure.errno().unwrap_or(Errno::ENODEV))?;
                start(directory.as_fd())
            }
            other => other,
        }
    }
}

/// Kills everything in the group and below, at once: a fork bomb cannot outrun it.
pub(crate) fn kill() -> Result<(), Failure> {
    files::set(&format!("{GROUP}/cgroup.kill"), "1")
}

/// What the processes of the group use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Microseconds of processor time, of those that have ended too.
    pub(crate) cpu_micros: u64,
    /// Bytes of memory, with the kernel's caches for them.
    pub(crate) memory: u64,
    /// Bytes that new processes could have.
    pub(crate) available: u64,
}

/// Asks the kernel. What root in the guest has taken away is 0.
pub(crate) fn usage() -> Usage {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Usage {
        cpu_micros: cpu_micros(&text(&format!("{GROUP}/cpu.stat"))).unwrap_or(0),
        memory: files::number(&format!("{GROUP}/memory.current")).unwrap_or(0),
        available: memory_line(&text("/proc/meminfo"), "MemAvailable:").unwrap_or(0),
    }
}

fn cpu_micros(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?.trim().parse().ok()
}

fn memory_limit(total: u64) -> u64 {
    let reserve = (total / 16).clamp(*MEMORY_RESERVE.start(), *MEMORY_RESERVE.end());
    total.saturating_sub(reserve).max(total / 2)
}

fn pids_limit(kernel: u64) -> u64 {
    kernel.saturating_sub((kernel / 16).max(PIDS_RESERVE)).max(kernel / 2)
}

/// Bytes of memory, from /proc/meminfo.
fn memory_total() -> Result<u64, Failure> {
    let text =
        std::fs::read_to_string("/proc/meminfo").during(|| "Reading /proc/meminfo".into())?;
    parse_memory_total(&text).ok_or_else(|| Failure::new("/proc/meminfo has no MemTotal"))
}

fn parse_memory_total(text: &str) -> Option<u64> {
    memory_line(text, "MemTotal:")
}

/// Bytes, of a line of /proc/meminfo.
fn memory_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn workload_leaves_a_sixteenth_of_memory_within_bounds() {
        assert_eq!(memory_limit(256 * MIB), 240 * MIB);
        assert_eq!(memory_limit(100 * MIB), 92 * MIB);
        assert_eq!(memory_limit(4096 * MIB), 4032 * MIB);
        assert_eq!(memory_limit(8 * MIB), 4 * MIB);
    }

    #[test]
    fn workload_leaves_processes_to_the_kernel() {
        assert_eq!(pids_limit(32_768), 30_720);
        assert_eq!(pids_limit(800), 736);
        assert_eq!(pids_limit(100), 50);
    }

    #[test]
    fn processor_time_is_read_from_its_line() {
        assert_eq!(cpu_micros("usage_usec 1234\nuser_usec 1000\n"), Some(1234));
        assert_eq!(cpu_micros("user_usec 1000\n"), None);
    }

    #[test]
    fn memory_total_is_read_in_bytes() {
        let text = "MemFree: 1 kB\nMemTotal:         245760 kB\n";
        assert_eq!(parse_memory_total(text), Some(240 * MIB));
        assert_eq!(parse_memory_total("MemTotal: x kB"), None);
        assert_eq!(parse_memory_total(""), None);
    }
}
