//! The end of the machine but for the reset: processes, filesystems, root.
//!
//! ```text
//! SIGTERM to everything ─► grace ─► cgroup.kill, SIGKILL to everything ─► nobody left
//!   ─► a helper process: sync and unmount in reverse order, root read-only ─► problems
//!   ─► beside it one for each filesystem of the host: sync
//! ```
//! The helpers are processes because each of these calls can wait for ever, for a filesystem whose
//! server does not answer; PID 1 waits for [`UNMOUNT_DEADLINE`]. What the host serves is taken out
//! of the way first and synced by itself, so that a host that hangs cannot spoil the root; and never
//! sync(2), which waits for all filesystems.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc::{SIGCONT, SIGKILL, SIGTERM};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::time::{sleep, timeout};

use crate::boot::cgroup;
use crate::filesystems::Filesystem;
use crate::limits::{EMPTY_DEADLINE, LOOK_AGAIN, MAX_PROBLEM, MAX_PROBLEMS, UNMOUNT_DEADLINE};
use crate::machine::Machine;
use crate::process::children::Kind;
use crate::sys::signal::{Target, send};
use crate::sys::spawn::spawn;
use crate::sys::wait::{Exit, have_children};
use crate::sys::watch::watch;

/// Mounts that hold nothing to lose and that we (and the helper) use.
const KEPT: [&str; 7] =
    ["/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];

/// Ends processes and filesystems; what did not go well, for people.
pub(crate) async fn run(machine: &Machine, grace: Duration) -> Vec<String> {
    let mut problems = Vec::new();
    if !end_processes(machine, grace).await {
        problems.push("some processes have not ended after SIGKILL".to_owned());
    }
    let served = machine.filesystems.all();
    let syncs = served.iter().map(|filesystem| {
        let sync = timeout(UNMOUNT_DEADLINE, sync(machine, filesystem));
        async move { (filesystem.target.as_str(), sync.await) }
    });
    let unmounting = timeout(UNMOUNT_DEADLINE, unmount(machine));
    let (unmounted, synced) = tokio::join!(unmounting, futures::future::join_all(syncs));
    match unmounted {
        Ok(Ok(found)) => problems.extend(found),
        Ok(Err(errno)) => problems.push(format!("unmounting was not possible: {}", errno.desc())),
        Err(_) => {
            problems.push(format!("unmounting took longer than {} s", UNMOUNT_DEADLINE.as_secs()))
        }
    }
    for (target, result) in synced {
        match result {
            Ok(Ok(())) => {}
            Ok(Err(errno)) => problems.push(format!("{target}: syncing: {}", errno.desc())),
            Err(_) => {
                let seconds = UNMOUNT_DEADLINE.as_secs();
                problems.push(format!("{target}: syncing took longer than {seconds} s"));
            }
        }
    }
    problems.truncate(MAX_PROBLEMS);
    problems
}

/// Whether nobody is left.
async fn end_processes(machine: &Machine, grace: Duration) -> bool {
    // ESRCH when there is nobody: then nobody is waited for.
    let _ = send(Target::Everybody, SIGTERM);
    // Stopped processes have to run to end.
    let _ = send(Target::Everybody, SIGCONT);
    if alone_within(machine, grace).await {
        return true;
    }
    let started = Instant::now();
    while started.elapsed() < EMPTY_DEADLINE {
        // The group is not there when Configure did not come so far.
        let _ = cgroup::kill();
        let _ = send(Target::Everybody, SIGKILL);
        if alone_within(machine, LOOK_AGAIN * 5).await {
            return true;
        }
    }
    false
}

async fn alone_within(machine: &Machine, limit: Duration) -> bool {
    let started = Instant::now();
    loop {
        machine.children.reap();
        if !have_children() {
            return true;
        }
        if started.elapsed() >= limit {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Syncs a filesystem of the host, in a helper.
async fn sync(machine: &Machine, filesystem: &Filesystem) -> nix::Result<()> {
    let pid = spawn(None, || filesystem.sync().err().map_or(0, |errno| errno.raw_os_error()))?;
    match machine.children.register(pid, Kind::Helper).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(Exit::Code(errno)) => Err(Errno::from_raw(errno)),
        _ => Err(Errno::EIO),
    }
}

/// Runs the helper and reads its problems: one a line.
async fn unmount(machine: &Machine) -> nix::Result<Vec<String>> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(read.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let pid = spawn(None, || {
        let text = unmount_all().join("\n");
        // Nobody to tell means nothing to do about it.
        let _ = nix::unistd::write(&write, text.as_bytes());
        0
    })?;
    drop(write);
    let _exit = machine.children.register(pid, Kind::Helper);
    let text = read_to_end(read).await?;
    Ok(text.lines().map(str::to_owned).collect())
}

async fn read_to_end(pipe: OwnedFd) -> nix::Result<String> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let pipe = watch(pipe, Interest::READABLE)?;
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let mut ready = pipe.readable().await.map_err(errno)?;
        match nix::unistd::read(&pipe, &mut piece) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(count) => text.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// In the helper: everything that may wait.
fn unmount_all() -> Vec<String> {
    let mut problems = Problems::default();
    let mounts = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) => parse(&text),
        Err(error) => {
            problems.add("/proc/self/mountinfo", &error.to_string());
            Vec::new()
        }
    };
    let served: Vec<&str> =
        mounts.iter().filter(|mount| mount.served).map(|mount| mount.target.as_str()).collect();
    // With all that is mounted in them.
    for target in served.iter().rev().filter(|target| !is_inside(target, &served)) {
        let flags = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH;
        if let Err(errno) = umount2(*target, flags) {
            problems.add(target, errno.desc());
        }
    }
    for mount in mounts.iter().rev() {
        let target = mount.target.as_str();
        let gone = mount.served || is_inside(target, &served);
        if gone || target == "/" || KEPT.contains(&target) {
            continue;
        }
        sync_at(target);
        if let Err(errno) = umount2(target, MntFlags::UMOUNT_NOFOLLOW) {
            problems.add(target, errno.desc());
            // Out of the way of what it is mounted on.
            let _ = umount2(target, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH);
        }
    }
    let root_is_writable = mounts.iter().any(|mount| mount.target == "/" && mount.writable);
    if root_is_writable {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        if let Err(errno) = mount(None::<&str>, "/", None::<&str>, flags, None::<&str>) {
            problems.add("/", errno.desc());
        }
        sync_at("/");
    }
    problems.0
}

fn is_inside(target: &str, mounts: &[&str]) -> bool {
    mounts
        .iter()
        .any(|mount| target.strip_prefix(mount).is_some_and(|below| below.starts_with('/')))
}

/// One filesystem. What cannot be synced cannot be unmounted either, which is told.
fn sync_at(target: &str) {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    if let Ok(root) = open(target, flags, Mode::empty()) {
        let _ = rustix::fs::syncfs(root);
    }
}

/// At most [`MAX_PROBLEMS`] lines of at most [`MAX_PROBLEM`] bytes, so that they fit in a pipe.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, path: &str, reason: &str) {
        if self.0.len() < MAX_PROBLEMS {
            let line: String = format!("{path}: {reason}").replace('\n', "?");
            let end = line.floor_char_boundary(MAX_PROBLEM);
            self.0.push(line.get(..end).unwrap_or_default().to_owned());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    target: String,
    writable: bool,
    /// By the host, over virtio-fs.
    served: bool,
}

/// The lines of /proc/self/mountinfo (proc(5)), in the order of mounting.
fn parse(text: &str) -> Vec<Mounted> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let target = unescape(fields.nth(4)?);
            let writable = fields.next()?.split(',').any(|option| option == "rw");
            let served = line.contains(" - virtiofs ");
            Some(Mounted { target, writable, served })
        })
        .collect()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_odd_names() {
        let text = "22 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda ro\n\
            30 22 0:25 / /tmp/a\\040b\\134c rw,nosuid shared:2 - tmpfs tmpfs rw\nbroken\n\
            31 22 0:26 / /work rw,nodev shared:3 - virtiofs mount0 rw\n";
        let expected = vec![
            Mounted { target: "/".into(), writable: false, served: false },
            Mounted { target: "/tmp/a b\\c".into(), writable: true, served: false },
            Mounted { target: "/work".into(), writable: true, served: true },
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn what_is_inside_of_a_mount_is_told_from_what_is_named_alike() {
        assert!(is_inside("/a/b", &["/x", "/a"]));
        assert!(!is_inside("/a", &["/a"]) && !is_inside("/ab", &["/a"]));
    }

    #[test]
    fn problems_are_bounded_in_number_and_length() {
        let mut problems = Problems::default();
        for _ in 0..MAX_PROBLEMS * 2 {
            problems.add(&"ä".repeat(MAX_PROBLEM), "Busy\nreally");
        }
        assert_eq!(problems.0.len(), MAX_PROBLEMS);
        assert!(problems.0.iter().all(|line| line.len() <= MAX_PROBLEM && !line.contains('\n')));
    }
}
