//! The machine's name, and the files that resolve it: /etc/hosts (hosts(5)) and /etc/hostname.

use std::fs;
use std::io;

use super::files;
use super::mounts;
use super::step::{Failure, While};

/// Where generated files lie; /run is a tmpfs on every root.
pub(crate) const RUNTIME: &str = "/run/lanebox";

/// Sets the machine's name.
pub(crate) fn set(hostname: &str) -> Result<(), Failure> {
    nix::unistd::sethostname(hostname).during(|| "Setting the host name".into())
}

/// Makes the name resolve to loopback. A writable root gets the files; over those of a read-only
/// root generated ones are bound. A file that a read-only root lacks cannot be had.
pub(crate) fn write(hostname: &str, read_only: bool) -> Result<(), Failure> {
    mounts::make_directory(RUNTIME)?;
    let generated = [("hosts", hosts(hostname)), ("hostname", format!("{hostname}\n"))];
    if !read_only {
        mounts::make_directory("/etc")?;
        for (name, content) in &generated {
            files::replace(&format!("/etc/{name}"), content)?;
        }
        // Where programs older than /proc/self/mounts look.
        return match std::os::unix::fs::symlink("../proc/self/mounts", "/etc/mtab") {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).during(|| "Linking /etc/mtab".into())
            }
            _ => Ok(()),
        };
    }
    for (name, content) in &generated {
        let (ours, theirs) = (format!("{RUNTIME}/{name}"), format!("/etc/{name}"));
        if fs::metadata(&theirs).is_ok_and(|found| found.is_file()) {
            files::replace(&ours, content)?;
            mounts::bind(&ours, &theirs)?;
        }
    }
    Ok(())
}

fn hosts(hostname: &str) -> String {
    let mut names = vec![hostname];
    // Programs ask for the short form of a long name, too.
    names.extend(hostname.split_once('.').map(|(short, _)| short));
    names.retain(|name| *name != "localhost");
    let line = |address: &str, own: &str| {
        let names: Vec<&str> = own.split(' ').chain(names.iter().copied()).collect();
        format!("{address}\t{}\n", names.join(" "))
    };
    line("127.0.0.1", "localhost")
        + &line("::1", "localhost ip6-localhost ip6-loopback")
        + "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_resolves_to_both_loopback_addresses() {
        let hosts = hosts("box.example.org");
        assert!(hosts.contains("127.0.0.1\tlocalhost box.example.org box\n"));
        assert!(hosts.contains("::1\tlocalhost ip6-localhost ip6-loopback box.example.org box\n"));
    }

    #[test]
    fn localhost_is_named_once() {
        assert!(hosts("localhost").contains("127.0.0.1\tlocalhost\n"));
    }
}
