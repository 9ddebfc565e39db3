//! What this process holds.

use std::fs;
use std::path::Path;

/// What this process holds: descriptors, threads, children.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    descriptors: Vec<String>,
    threads: usize,
    children: String,
}

pub(crate) fn held() -> Held {
    let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| !target.contains("/proc/"))
        .collect();
    descriptors.sort();
    let tasks: Vec<_> = fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap).collect();
    let children = tasks
        .iter()
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .collect();
    let threads = tasks.iter().filter(|task| is_thread_of_ours(&task.path())).count();
    Held { descriptors, threads, children }
}

/// Whether a thread, a folder in /proc, is the crates' and alive. The harness starts and ends
/// threads of its own, named after tests, whenever it likes. A thread that was joined may still be
/// listed: the kernel wakes who joins it first and takes it off the list some steps later, which a
/// busy machine puts a pause between; by then it is marked as ending (PF_EXITING of sched.h in
/// field 9 of `stat`).
fn is_thread_of_ours(task: &Path) -> bool {
    const ENDING: u32 = 4;
    let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
    // PID (name) state parent group session terminal its-group flags …
    let Some((begin, rest)) = stat.rsplit_once(") ") else { return false };
    let name = begin.split_once('(').map_or("", |(_, name)| name);
    let flags: u32 = rest.split(' ').nth(6).unwrap().parse().unwrap();
    (name.starts_with("engine-") || name.starts_with("virtio-")) && flags & ENDING == 0
}

/// Memory of this process that is in use, in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
