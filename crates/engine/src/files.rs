//! Files of the system that engines need.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::qemu;

/// What a process that confines itself must leave open for engines. What is not there is named all
/// the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Programs that are executed.
    pub programs: Vec<PathBuf>,
    /// Files and directories that those programs read.
    pub program_files: Vec<PathBuf>,
    /// Devices that this process uses.
    pub devices: Vec<PathBuf>,
    /// Files and directories that this process reads.
    pub system: Vec<PathBuf>,
}

/// Where libraries are, by the defaults of the loader and of distributions.
const LIBRARIES: [&str; 7] = [
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
];
/// Where QEMU's firmware is.
const FIRMWARE: [&str; 4] =
    ["/usr/share/qemu", "/usr/share/seabios", "/usr/share/qemu-kvm", "/usr/local/share/qemu"];
/// What the probe and the start of a machine look at.
const SYSTEM: [&str; 4] = ["/proc", "/sys/devices/system", "/sys/fs/cgroup", "/etc/group"];

impl Files {
    /// Those of this host.
    #[must_use]
    pub fn of_host() -> Self {
        let mut files = Self {
            devices: vec!["/dev/kvm".into(), "/dev/null".into()],
            system: SYSTEM.map(PathBuf::from).into(),
            ..Self::default()
        };
        if let Some(program) = qemu::find() {
            files.program_files = LIBRARIES.iter().chain(&FIRMWARE).map(PathBuf::from).collect();
            if let Some(prefix) = program.parent().and_then(Path::parent) {
                let own = ["lib", "lib64", "share/qemu"].map(|name| prefix.join(name));
                files.program_files.extend(own);
            }
            files.programs.extend(loader(&program));
            files.programs.push(program);
        }
        files
    }
}

/// The program's loader (`PT_INTERP`, ELF-64), which the kernel executes with it.
fn loader(program: &Path) -> Option<PathBuf> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const INTERPRETER: u32 = 3;
    const LONGEST: usize = 4096;
    let file = File::open(program).ok()?;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0).ok()?;
    if &header[..5] != b"\x7fELF\x02" {
        return None;
    }
    let long =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let table = long(&header, 32)?;
    let count = u16::from_le_bytes([header[56], header[57]]);
    for index in 0..u64::from(count) {
        let mut entry = [0; PROGRAM_HEADER];
        file.read_exact_at(&mut entry, table.checked_add(index * PROGRAM_HEADER as u64)?).ok()?;
        if u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) != INTERPRETER {
            continue;
        }
        let length = usize::try_from(long(&entry, 32)?).ok().filter(|length| *length <= LONGEST)?;
        let mut name = vec![0; length];
        file.read_exact_at(&mut name, long(&entry, 8)?).ok()?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        return Some(PathBuf::from(OsStr::from_bytes(&name[..end])));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_program_is_read_from_it() {
        let own = std::env::current_exe().unwrap();
        let found = loader(&own).unwrap();
        assert!(found.is_file() && found.to_string_lossy().contains("ld-linux"), "{found:?}");
    }

    #[test]
    fn what_is_no_program_has_none() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "#!/bin/sh\n", "\x7fELF\x02", &"\x7fELF\x02".repeat(40)] {
            let path = folder.path().join("program");
            std::fs::write(&path, text).unwrap();
            assert_eq!(loader(&path), None, "{text:?}");
        }
    }
}
