//! Joining a control group (cgroup v2) that the caller has made and set limits in.
//!
//! The caller makes and removes it: only they know its limits, and a process cannot remove the
//! group that it is in. What this process starts is in it too.

use std::fs;
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::error::Error;

pub(crate) fn join(path: &Path) -> Result<(), Error> {
    let refuse = |problem: String| Error::ControlGroup { path: path.to_owned(), problem };
    let found = statfs(path).map_err(|errno| refuse(format!("cannot be looked at: {errno}")))?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(refuse("is not in a cgroup2 filesystem".to_owned()));
    }
    // "0" is the writer.
    fs::write(path.join("cgroup.procs"), "0")
        .map_err(|error| refuse(format!("cannot be joined: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_control_group_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.procs"), "").unwrap();
        let refused = join(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("is not in a cgroup2 filesystem"), "{refused}");
        let missing = join(&folder.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none") && missing.contains("ENOENT"), "{missing}");
    }
}
