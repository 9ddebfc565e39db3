//! A QEMU machine whose PID 1 is a shell script.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const BUSYBOX: &str = "/bin/busybox";
/// Longest that anything may take here.
const PATIENCE: Duration = Duration::from_secs(300);
const BEGIN: &str = "---begin---\r\n";
const END: &str = "---end---\r\n";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Only one test has its turn: they share two processors and count threads.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A machine that does not run yet.
pub(crate) struct Machine {
    kernel: PathBuf,
    busybox: Vec<u8>,
    disks: Vec<(OwnedFd, u16)>,
}

/// A machine that runs. Ends when dropped.
pub(crate) struct Running {
    child: Child,
    console: Receiver<Vec<u8>>,
}

impl Machine {
    /// `None` when something is missing; then the test is said to be skipped.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let missing = |what| println!("skipped: {test}: no {what}");
        if !fs::exists(QEMU).unwrap() {
            missing(QEMU);
            return None;
        }
        let Some(kernel) = kernel() else {
            missing("kernel; build one, or name one in LANEBOX_TEST_KERNEL");
            return None;
        };
        let Ok(busybox) = fs::read(BUSYBOX) else {
            missing(BUSYBOX);
            return None;
        };
        Some(Self { kernel, busybox, disks: Vec::new() })
    }

    /// The back end's end of the socket of one more disk.
    pub(crate) fn add_disk(&mut self, queues: u16) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // A duplicate is inherited, the original is not.
        self.disks.push((nix::unistd::dup(&theirs).unwrap(), queues));
        ours
    }

    pub(crate) fn start(self, script: &str) -> Running {
        let initramfs = self.initramfs(script);
        let mut command = Command::new(QEMU);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-M", "microvm,acpi=off,rtc=on,memory-backend=memory", "-accel", "tcg"])
            .args(["-cpu", "qemu64", "-m", "256M", "-smp", "2"])
            .args(["-object", "memory-backend-memfd,id=memory,size=256M,share=on"])
            .args(["-global", "virtio-mmio.force-legacy=false", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(format!("/proc/self/fd/{}", initramfs.as_raw_fd()))
            .args([
                "-append",
                "console=ttyS0 quiet panic=-1 reboot=t no_timer_check pci=off rdinit=/init",
            ]);
        for (index, (disk, queues)) in self.disks.iter().enumerate() {
            command
                .args(["-chardev", &format!("socket,id=disk{index},fd={}", disk.as_raw_fd())])
                .args([
                    "-device",
                    &format!("vhost-user-blk,chardev=disk{index},num-queues={queues}"),
                ]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, console) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Running { child, console }
    }

    /// What the script printed, when the machine has ended.
    pub(crate) fn run(self, script: &str) -> String {
        let output = self.start(script).read_until(END);
        let output = output.split(BEGIN).nth(1).unwrap_or_else(|| panic!("{output}"));
        output.trim_end_matches(END).replace("\r\n", "\n")
    }

    fn initramfs(&self, script: &str) -> OwnedFd {
        let script = format!(
            "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
echo ---begin---
{script}
echo ---end---
reboot -f
"
        );
        let mut archive = Vec::new();
        for folder in ["bin", "dev", "mnt", "proc", "sys"] {
            entry(&mut archive, folder, 0o040_755, &[]);
        }
        entry(&mut archive, "bin/busybox", 0o100_755, &self.busybox);
        entry(&mut archive, "init", 0o100_755, script.as_bytes());
        entry(&mut archive, "TRAILER!!!", 0, &[]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive).unwrap();
        file.rewind().unwrap();
        nix::unistd::dup(&file).unwrap()
    }
}

impl Running {
    pub(crate) fn wait_for(&self, text: &str) {
        self.read_until(text);
    }

    pub(crate) fn read_until(&self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let all = String::from_utf8_lossy(&seen).into_owned();
            if all.contains(text) {
                return all;
            }
            match self.console.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(more) => seen.extend(more),
                Err(RecvTimeoutError::Timeout) => panic!("nothing more came: {all}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the machine ended: {all}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kernel that the environment names, or that was built last.
fn kernel() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LANEBOX_TEST_KERNEL") {
        return Some(named.into());
    }
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let built = fs::read_dir(cache.join("lanebox/kernel")).ok()?;
    let mut kernels: Vec<(SystemTime, PathBuf)> = built
        .filter_map(|folder| {
            let path = folder.ok()?.path().join("vmlinux");
            Some((path.metadata().ok()?.modified().ok()?, path))
        })
        .collect();
    kernels.sort();
    Some(kernels.pop()?.1).filter(|path| File::open(path).is_ok())
}

/// One member of a `newc` archive (Documentation/driver-api/early-userspace/buffer-format.rst).
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) {
    let size = u32::try_from(contents.len()).unwrap();
    let name_size = u32::try_from(name.len() + 1).unwrap();
    archive.extend_from_slice(b"070701");
    for field in [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
