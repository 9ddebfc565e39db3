//! Whether a guest's memory fits into this host.
//!
//! Guest memory is taken page by page as the guest touches it. So a guest with more memory than
//! the host has in all could only ever end by being killed when it uses it, and is refused; one
//! with more than is free just now may be meant, when lanes share a host and few use all they
//! have, and is warned about.

use std::path::Path;

use crate::error::StartError;

const MIB: u64 = 1024 * 1024;

/// Refuses what can never fit. The result is a warning when it does not fit just now.
pub(crate) fn check(memory_mib: u32) -> Result<Option<String>, StartError> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    judge(memory_mib, &meminfo, control_group_limit(Path::new("/")))
}

fn judge(
    memory_mib: u32,
    meminfo: &str,
    group_limit: Option<u64>,
) -> Result<Option<String>, StartError> {
    let asked_mib = u64::from(memory_mib);
    let limits = [field(meminfo, "MemTotal:"), group_limit];
    let limit_mib = limits.into_iter().flatten().min().unwrap_or(u64::MAX) / MIB;
    if asked_mib > limit_mib {
        return Err(StartError::NotEnoughMemory { asked_mib, limit_mib });
    }
    let available_mib = field(meminfo, "MemAvailable:").unwrap_or(u64::MAX) / MIB;
    Ok((asked_mib > available_mib).then(|| {
        format!(
            "The guest may use {asked_mib} MiB of memory, but only {available_mib} MiB are free on \
             this host now; if it uses more, the host may kill it."
        )
    }))
}

/// Bytes of a line of /proc/meminfo.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The least `memory.max` of this process's control group and those above it (cgroup v2).
fn control_group_limit(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Path::new(own)
        .ancestors()
        .filter_map(|group| {
            let file = root.join("sys/fs/cgroup").join(group).join("memory.max");
            std::fs::read_to_string(file).ok()?.trim().parse().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MEMINFO: &str =
        "MemTotal:        4194304 kB\nMemFree: 1 kB\nMemAvailable:    1048576 kB\n";

    #[test]
    fn memory_beyond_the_host_or_its_group_is_refused() {
        assert!(matches!(
            judge(4097, MEMINFO, None),
            Err(StartError::NotEnoughMemory { asked_mib: 4097, limit_mib: 4096 })
        ));
        assert!(judge(513, MEMINFO, Some(512 * MIB)).is_err());
        assert!(judge(512, MEMINFO, Some(512 * MIB)).is_ok());
    }

    #[test]
    fn memory_that_is_not_free_now_is_warned_about() {
        assert_eq!(judge(1024, MEMINFO, None).unwrap(), None);
        let warning = judge(1025, MEMINFO, None).unwrap().unwrap();
        assert!(warning.contains("1025 MiB") && warning.contains("1024 MiB"), "{warning}");
    }

    #[test]
    fn a_host_that_tells_nothing_refuses_nothing() {
        assert_eq!(judge(1024, "", None).unwrap(), None);
    }

    #[test]
    fn the_least_limit_of_all_groups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let groups = root.path().join("sys/fs/cgroup/user/session");
        fs::create_dir_all(&groups).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::write(root.path().join("proc/self/cgroup"), "1:cpu:/\n0::/user/session\n").unwrap();
        assert_eq!(control_group_limit(root.path()), None);
        fs::write(groups.join("memory.max"), "max\n").unwrap();
        fs::write(groups.join("../memory.max"), "1000\n").unwrap();
        assert_eq!(control_group_limit(root.path()), Some(1000));
        fs::write(groups.join("memory.max"), "900\n").unwrap();
        assert_eq!(control_group_limit(root.path()), Some(900));
    }
}
