//! What comes before the host can be heard: the kernel's filesystems, the console, and what keeps
//! PID 1 out of the workload's reach.
//!
//! The OOM killer never picks PID 1 (mm/oom_kill.c, `oom_unkillable_task`), so `oom_score_adj`
//! stays 0, and children need not put it back.

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::mounts::{self, Mount};
use super::step::{Failure, While};
use crate::console;
use crate::limits::MAX_OPEN_FILES;

/// Name of a step before the channel exists, with what it does.
type EarlyStep = (&'static str, fn() -> Result<(), Failure>);

const STEPS: [EarlyStep; 3] =
    [("mount-kernel-filesystems", mount), ("console", attach), ("protect", protect)];

/// Takes the steps; the error names the one that failed.
pub(crate) fn run() -> Result<(), (&'static str, Failure)> {
    for (name, step) in STEPS {
        step().map_err(|failure| (name, failure))?;
    }
    Ok(())
}

fn mount() -> Result<(), Failure> {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    for mount in [Mount::DEV, Mount::PROC, Mount::SYS] {
        mounts::make_directory(mount.target)?;
        mounts::mount(&mount)?;
    }
    Ok(())
}

fn attach() -> Result<(), Failure> {
    console::attach().during(|| "Opening /dev/console".into())
}

fn protect() -> Result<(), Failure> {
    prctl::set_dumpable(false).during(|| "PR_SET_DUMPABLE".into())?;
    // ONFAULT: what is touched stays, nothing is read ahead. Never swapped, if the guest has swap.
    let flags =
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(4);
    mlockall(flags).during(|| "Locking memory".into())?;
    setrlimit(Resource::RLIMIT_NOFILE, MAX_OPEN_FILES, MAX_OPEN_FILES)
        .during(|| "Setting RLIMIT_NOFILE".into())
}
