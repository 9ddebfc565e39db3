//! Resource limits of this process and what it starts.
//!
//! Left alone: FSIZE (a disk's store may be as large as the caller's disk), AS and DATA (guest
//! memory is in this process's address space), CPU (a VM has no end). NPROC counts all processes of
//! the user, so it is set in a user namespace alone, where it counts ours.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Error, system};

/// Descriptors. Host directories are held open by descriptor; they take their share of what there
/// is, and the kernel's tables for this many cost 8 MiB.
const FILES: u64 = 1 << 20;
/// Threads and processes: 64 virtual processors, 16 filesystems and 4 disks with their pools, the
/// engine's own. Far more than any VM has.
const PROCESSES: u64 = 4096;

pub(crate) fn set(in_user_namespace: bool) -> Result<(), Error> {
    lower(Resource::RLIMIT_CORE, 0)?;
    // Nothing of ours locks memory, sends through message queues, or runs in real time.
    lower(Resource::RLIMIT_MEMLOCK, 0)?;
    lower(Resource::RLIMIT_MSGQUEUE, 0)?;
    lower(Resource::RLIMIT_RTPRIO, 0)?;
    lower(Resource::RLIMIT_NICE, 0)?;
    if in_user_namespace {
        lower(Resource::RLIMIT_NPROC, PROCESSES)?;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system("ask for limits"))?;
    let files = most.min(FILES);
    setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(system("set the limit of files"))
}

fn lower(resource: Resource, to: u64) -> Result<(), Error> {
    let (_, most) = getrlimit(resource).map_err(system("ask for limits"))?;
    let limit = most.min(to);
    setrlimit(resource, limit, limit).map_err(system("set a resource limit"))
}
