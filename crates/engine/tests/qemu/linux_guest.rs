//! Linux as a guest: the real kernel, with a shell script as PID 1.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::SystemTime;

use engine::VmSpec;

use crate::support::{file, spec};

const BUSYBOX: &str = "/bin/busybox";
/// Comes before every script: the usual file systems, and `$port`, the control port.
const PROLOGUE: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for p in /sys/class/virtio-ports/*; do
  [ "$(cat "$p/name")" = test.control ] && port=/dev/${p##*/}
done
"#;

/// A machine that runs `script`. `None` when kernel or busybox are not there; then the test is
/// said to be skipped.
pub(crate) fn linux(test: &str, script: &str) -> Option<VmSpec> {
    let Some(kernel) = kernel() else {
        println!("skipped: {test}: no kernel; build one, or name one in LANEBOX_TEST_KERNEL");
        return None;
    };
    let Ok(busybox) = fs::read(BUSYBOX) else {
        println!("skipped: {test}: no {BUSYBOX}; install busybox-static");
        return None;
    };
    let mut archive = Vec::new();
    for folder in ["bin", "dev", "proc", "sys", "mnt"] {
        entry(&mut archive, folder, 0o040_755, &[]);
    }
    entry(&mut archive, "bin/busybox", 0o100_755, &busybox);
    entry(&mut archive, "init", 0o100_755, format!("{PROLOGUE}{script}\n").as_bytes());
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    let initramfs = file(&archive);
    Some(VmSpec { initramfs, memory_mib: 256, ..spec(kernel) })
}

/// The kernel that the environment names, that was built into the artifacts, or that was built
/// last.
fn kernel() -> Option<File> {
    if let Some(named) = std::env::var_os("LANEBOX_TEST_KERNEL") {
        return Some(File::open(named).expect("LANEBOX_TEST_KERNEL can be opened"));
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    File::open(root.join("artifacts/linux-x64-gnu/vmlinux")).ok().or_else(newest_in_cache)
}

fn newest_in_cache() -> Option<File> {
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
    File::open(kernels.pop()?.1).ok()
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
    pad(archive);
    archive.extend_from_slice(contents);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
