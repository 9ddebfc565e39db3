//! Small files: kernel settings, and generated ones that replace others.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

use super::step::{Failure, While};

/// Writes into a file of the kernel's (/proc/sys, /sys/fs/cgroup), in one write.
pub(crate) fn set(path: &str, value: &str) -> Result<(), Failure> {
    fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .during(|| format!("Writing {value:?} to {path}"))
}

/// Makes a file with mode 0644 in place of whatever is there; a reader sees the old or the new one.
pub(crate) fn replace(path: &str, content: &str) -> Result<(), Failure> {
    let new = format!("{path}.lanebox");
    let written = match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&new)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .and_then(|()| fs::rename(&new, path)),
    };
    written.during(|| format!("Writing {path}"))
}

/// A number from a file of the kernel's.
pub(crate) fn number(path: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path).during(|| format!("Reading {path}"))?;
    text.trim().parse().map_err(|_| Failure::new(format!("{path} holds no number: {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_file_is_new_even_where_a_link_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let outside = folder.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        replace(path.to_str().unwrap(), "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn file_without_a_number_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid_max");
        fs::write(&path, "many\n").unwrap();
        let failure = number(path.to_str().unwrap()).unwrap_err();
        assert!(failure.to_string().contains("pid_max"));
    }
}
