//! `BootRequest.mounts`, checked.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use protocol::v1;
use protocol::v1::FilesystemFeature as Wire;
use protocol::v1::mount::Source;
use vfs::callbacks::Features;

use super::{RequestError, check_path};
use crate::limits::{
    CALLBACK_CACHE_MAX_MS, CALLBACK_DEFAULT, MAX_DEADLINE_MS, MAX_MASKS, MAX_MOUNTS, UNLINKED_BYTES,
};
use crate::mount::check_id;

/// What the guest's kernel and init have for themselves.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// A filesystem beside the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// Where it goes in the guest.
    pub target: String,
    /// The guest may not change it.
    pub read_only: bool,
    /// Set-id bits have their meaning.
    pub set_id: bool,
    /// What it is.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A directory of the host.
    Bind(BindPlan),
    /// Callbacks of the client.
    Callbacks(CallbackPlan),
}

/// A directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindPlan {
    /// Which, absolute.
    pub source: PathBuf,
    /// What the guest does not get of it, relative and in normal form.
    pub mask_paths: Vec<PathBuf>,
    /// Where those are instead.
    pub mask_storage: Option<PathBuf>,
    /// Nobody else writes there.
    pub exclusive: bool,
}

/// Callbacks of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackPlan {
    /// The name of the attached stream.
    pub id: String,
    /// Which callbacks there are.
    pub features: Features,
    /// Time for each.
    pub deadline: Duration,
    /// How long the guest believes what it was told.
    pub cache: Duration,
    /// Most bytes of an open file that has lost its last name.
    pub unlinked_bytes: u64,
}

/// Checks the mounts, and puts parents before what is in them.
pub(super) fn mounts(mounts: Vec<v1::Mount>) -> Result<Vec<MountPlan>, RequestError> {
    if mounts.len() > MAX_MOUNTS {
        let reason = format!("there can be {MAX_MOUNTS} of them");
        return Err(RequestError::new("mounts", mounts.len(), reason));
    }
    let mut plans = mounts.into_iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    // A path sorts before all that it is the beginning of.
    plans.sort_by(|one, two| one.target.cmp(&two.target));
    if let Some([_, again]) = plans.windows(2).find(|pair| pair[0].target == pair[1].target) {
        let reason = "there is one mount for each target";
        return Err(RequestError::new("mounts.target", &again.target, reason));
    }
    let mut ids: Vec<&str> = plans.iter().filter_map(stream).collect();
    ids.sort_unstable();
    if let Some([id, _]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        let reason = "each stream serves one mount";
        return Err(RequestError::new("mounts.callbacks.id", id, reason));
    }
    Ok(plans)
}

fn stream(plan: &MountPlan) -> Option<&str> {
    match &plan.source {
        MountSource::Callbacks(callbacks) => Some(&callbacks.id),
        MountSource::Bind(_) => None,
    }
}

fn mount(mount: v1::Mount) -> Result<MountPlan, RequestError> {
    let target = mount.target;
    check_path("mounts.target", &target)?;
    if target == "/" || !is_normal(Path::new(&target), &target) {
        let reason =
            "it must be in normal form, without \".\", \"..\" or empty parts, and not \"/\"";
        return Err(RequestError::new("mounts.target", target, reason));
    }
    if let Some(kernels) = KERNELS.iter().find(|kernels| Path::new(&target).starts_with(kernels)) {
        let reason = format!("nothing can be mounted in {kernels}");
        return Err(RequestError::new("mounts.target", target, reason));
    }
    let source = match mount.source {
        Some(Source::Bind(source)) => MountSource::Bind(bind(source, mount.read_only)?),
        Some(Source::Callbacks(source)) => MountSource::Callbacks(callbacks(source)?),
        None => {
            let reason = "it must be bind or callbacks";
            return Err(RequestError::new("mounts.source", &target, reason));
        }
    };
    Ok(MountPlan { target, read_only: mount.read_only, set_id: mount.set_id, source })
}

/// Whether the text says nothing but the path's names.
fn is_normal(path: &Path, text: &str) -> bool {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    path.components().all(plain) && path.components().collect::<PathBuf>().as_os_str() == text
}

fn bind(bind: v1::BindMount, read_only: bool) -> Result<BindPlan, RequestError> {
    check_path("mounts.bind.source", &bind.source)?;
    if bind.mask_paths.len() > MAX_MASKS {
        let reason = format!("there can be {MAX_MASKS} of them");
        return Err(RequestError::new("mounts.bind.mask_paths", bind.mask_paths.len(), reason));
    }
    for path in &bind.mask_paths {
        let relative = !path.is_empty() && !path.starts_with('/') && !path.contains('\0');
        if !relative || !is_normal(Path::new(path), path) {
            let reason = "it must be relative to the source and in normal form";
            return Err(RequestError::new("mounts.bind.mask_paths", path, reason));
        }
    }
    if !bind.mask_storage.is_empty() {
        check_path("mounts.bind.mask_storage", &bind.mask_storage)?;
        if read_only {
            let reason = "a read-only mount needs none: what is masked is absent";
            return Err(RequestError::new("mounts.bind.mask_storage", bind.mask_storage, reason));
        }
    }
    Ok(BindPlan {
        source: bind.source.into(),
        mask_paths: bind.mask_paths.into_iter().map(PathBuf::from).collect(),
        mask_storage: Some(bind.mask_storage).filter(|path| !path.is_empty()).map(PathBuf::from),
        exclusive: bind.exclusive,
    })
}

fn callbacks(mount: v1::CallbackMount) -> Result<CallbackPlan, RequestError> {
    check_id("mounts.callbacks.id", &mount.id)?;
    let mut features = Features::NONE;
    for number in &mount.features {
        let known = v1::FilesystemFeature::try_from(*number).ok().and_then(feature);
        let Some(feature) = known else {
            let reason = "it must be one of FilesystemFeature";
            return Err(RequestError::new("mounts.callbacks.features", number, reason));
        };
        features = features.and(feature);
    }
    let deadline = match mount.deadline_ms {
        0 => CALLBACK_DEFAULT,
        ms @ 1..=MAX_DEADLINE_MS => Duration::from_millis(ms.into()),
        ms => {
            let reason = format!("it must be from 1 to {MAX_DEADLINE_MS}, or 0 for the default");
            return Err(RequestError::new("mounts.callbacks.deadline_ms", ms, reason));
        }
    };
    if mount.cache_ms > CALLBACK_CACHE_MAX_MS {
        let reason = format!("it can be {CALLBACK_CACHE_MAX_MS}");
        return Err(RequestError::new("mounts.callbacks.cache_ms", mount.cache_ms, reason));
    }
    if mount.unlinked_bytes > UNLINKED_BYTES.1 {
        let reason = format!("it can be {}", UNLINKED_BYTES.1);
        let field = "mounts.callbacks.unlinked_bytes";
        return Err(RequestError::new(field, mount.unlinked_bytes, reason));
    }
    Ok(CallbackPlan {
        id: mount.id,
        features,
        deadline,
        cache: Duration::from_millis(mount.cache_ms.into()),
        unlinked_bytes: match mount.unlinked_bytes {
            0 => UNLINKED_BYTES.0,
            bytes => bytes,
        },
    })
}

fn feature(wire: Wire) -> Option<Features> {
    Some(match wire {
        Wire::Unspecified => return None,
        Wire::Writable => Features::WRITABLE,
        Wire::Mkdir => Features::MKDIR,
        Wire::Unlink => Features::UNLINK,
        Wire::Rmdir => Features::RMDIR,
        Wire::Rename => Features::RENAME,
        Wire::RenameModes => Features::RENAME_FLAGS,
        Wire::Link => Features::LINK,
        Wire::Symlink => Features::SYMLINK,
        Wire::Readlink => Features::READLINK,
        Wire::Chmod => Features::CHMOD,
        Wire::Chown => Features::CHOWN,
        Wire::Utimes => Features::UTIMES,
        Wire::Setxattr => Features::SETXATTR,
        Wire::Getxattr => Features::GETXATTR,
        Wire::Listxattr => Features::LISTXATTR,
        Wire::Removexattr => Features::REMOVEXATTR,
        Wire::Fsync => Features::FSYNC,
        Wire::Statfs => Features::STATFS,
        Wire::Nodes => Features::NODES,
    })
}

#[cfg(test)]
mod tests;
