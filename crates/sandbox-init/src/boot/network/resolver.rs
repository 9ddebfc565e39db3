//! /etc/resolv.conf (resolv.conf(5)).

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::Network;
use crate::boot::step::{Failure, While};
use crate::boot::{files, mounts, names};

const FILE: &str = "/etc/resolv.conf";

/// Names the resolvers. A writable root gets the file; over that of a read-only root a generated one
/// is bound, or, where the image has a link into /run, it is put there.
pub(crate) fn write(network: &Network, read_only: bool) -> Result<(), Failure> {
    let content = content(&network.resolvers);
    if !read_only {
        return files::replace(FILE, &content);
    }
    let ours = format!("{}/resolv.conf", names::RUNTIME);
    files::replace(&ours, &content)?;
    if fs::metadata(FILE).is_ok_and(|found| found.is_file()) {
        return mounts::bind(&ours, FILE);
    }
    let Ok(target) = fs::read_link(FILE) else { return Ok(()) };
    let target = Path::new("/etc").join(target);
    let Some(target) = in_run(&target) else { return Ok(()) };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).during(|| format!("Making {}", folder.display()))?;
    }
    files::replace(&target.to_string_lossy(), &content)
}

/// The same path without `.` and `..`, when it is below /run: a tmpfs that only we have been in.
fn in_run(path: &Path) -> Option<std::path::PathBuf> {
    let mut plain = std::path::PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(plain.pop()),
            std::path::Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    (plain.starts_with("/run") && plain != Path::new("/run")).then_some(plain)
}

fn content(resolvers: &[IpAddr]) -> String {
    let mut text = String::new();
    for resolver in resolvers {
        let _ = writeln!(text, "nameserver {resolver}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_into_run_are_followed_by_name_only() {
        let stub = in_run(Path::new("/etc/../run/systemd/resolve/stub-resolv.conf"));
        assert_eq!(stub.as_deref(), Some(Path::new("/run/systemd/resolve/stub-resolv.conf")));
        for path in ["/etc/resolvconf/run/x", "/run", "/run/../etc/passwd", "/var/run/x"] {
            assert_eq!(in_run(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn every_resolver_has_its_line() {
        let resolvers = ["10.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(content(&resolvers), "nameserver 10.0.2.1\nnameserver fd00::1\n");
    }
}
