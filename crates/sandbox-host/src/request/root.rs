//! `BootRequest.root`, checked.

use std::path::PathBuf;

use blockcow::limits::{MAX_DISK_BYTES, MIN_DIRTY_BYTES};
use protocol::v1;
use protocol::v1::overlay::Store;

use super::boot::{ArtifactPath, artifact};
use super::{RequestError, check_path};
use crate::callback::check_id;
use crate::limits::{DIRTY_BYTES_DEFAULT, MIN_QUOTA_BYTES};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;

/// The disk of the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootImage {
    /// The file.
    pub file: ArtifactPath,
    /// How it is laid out.
    pub format: DiskFormat,
    /// Its size in bytes.
    pub size: u64,
    /// Where changes go; without it the root is read-only.
    pub overlay: Option<OverlayPlan>,
}

/// The layout of an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// QCOW2.
    Qcow2,
    /// The bytes as they are.
    Raw,
}

/// What makes a disk writable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayPlan {
    /// Where changes go.
    pub store: StorePlan,
    /// Size of the disk, when it is not the one that its file was given before, or the image's.
    pub size: Option<u64>,
}

/// Where changes of a disk go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlan {
    /// Into memory, this much at most.
    Memory {
        /// Bytes.
        quota: u64,
    },
    /// Into a file.
    File {
        /// Where, absolute.
        path: PathBuf,
        /// It is made when it is not there.
        create: bool,
    },
    /// To a store of the client.
    Callbacks {
        /// The name of the attached stream.
        id: String,
        /// Bytes that wait for the store at most.
        max_dirty: u64,
    },
}

pub(super) fn root(root: Option<v1::RootDisk>) -> Result<RootImage, RequestError> {
    let file = root
        .as_ref()
        .map(|root| v1::Artifact { path: root.path.clone(), digest: root.digest.clone() });
    let file = artifact(["root", "root.path", "root.digest"], file)?;
    let root = root.unwrap_or_default();
    let format = match v1::DiskFormat::try_from(root.format) {
        Ok(v1::DiskFormat::Qcow2) => DiskFormat::Qcow2,
        Ok(v1::DiskFormat::Raw) => DiskFormat::Raw,
        Ok(v1::DiskFormat::Unspecified) | Err(_) => {
            let reason = "it must be DISK_FORMAT_QCOW2 or DISK_FORMAT_RAW";
            return Err(RequestError::new("root.format", root.format, reason));
        }
    };
    let whole = format == DiskFormat::Qcow2 || root.size_bytes.is_multiple_of(SECTOR);
    if root.size_bytes == 0 || !whole {
        let reason = "it must be the image's size in bytes; of a raw image, a multiple of 512";
        return Err(RequestError::new("root.size_bytes", root.size_bytes, reason));
    }
    let overlay = root.overlay.map(overlay).transpose()?;
    Ok(RootImage { file, format, size: root.size_bytes, overlay })
}

fn overlay(overlay: v1::Overlay) -> Result<OverlayPlan, RequestError> {
    let size = match overlay.size_bytes {
        0 => None,
        size if size.is_multiple_of(MIB) && size <= MAX_DISK_BYTES => Some(size),
        size => {
            let reason = format!("it must be a multiple of 1 MiB up to {MAX_DISK_BYTES}");
            return Err(RequestError::new("root.overlay.size_bytes", size, reason));
        }
    };
    let store = match overlay.store {
        Some(Store::Memory(v1::MemoryStore { quota_bytes: quota })) => {
            at_least("root.overlay.memory.quota_bytes", quota, MIN_QUOTA_BYTES)?;
            StorePlan::Memory { quota }
        }
        Some(Store::File(v1::FileStore { path })) => {
            check_path("root.overlay.file.path", &path)?;
            StorePlan::File { path: PathBuf::from(path), create: true }
        }
        Some(Store::Callbacks(v1::CallbackStore { id, max_dirty_bytes })) => {
            check_id("root.overlay.callbacks.id", &id)?;
            let max_dirty =
                if max_dirty_bytes == 0 { DIRTY_BYTES_DEFAULT } else { max_dirty_bytes };
            let field = "root.overlay.callbacks.max_dirty_bytes";
            at_least(field, max_dirty, MIN_DIRTY_BYTES)?;
            StorePlan::Callbacks { id, max_dirty }
        }
        None => {
            let reason = "it must be memory, file or callbacks";
            return Err(RequestError::new("root.overlay.store", "absent", reason));
        }
    };
    Ok(OverlayPlan { store, size })
}

fn at_least(field: &'static str, value: u64, least: u64) -> Result<(), RequestError> {
    if value >= least {
        return Ok(());
    }
    Err(RequestError::new(field, value, format!("it must be at least {least}")))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn refused(change: impl FnOnce(&mut v1::Overlay)) -> Cow<'static, str> {
        let file = v1::FileStore { path: "/lanes/1".to_owned() };
        let mut plan = v1::Overlay { store: Some(Store::File(file)), size_bytes: 0 };
        change(&mut plan);
        overlay(plan).expect_err("refused").field
    }

    #[test]
    fn each_field_of_an_overlay_is_refused_by_its_name() {
        assert_eq!(refused(|plan| plan.store = None), "root.overlay.store");
        assert_eq!(refused(|plan| plan.size_bytes = 512), "root.overlay.size_bytes");
        assert_eq!(refused(|plan| plan.size_bytes = 1 << 60), "root.overlay.size_bytes");
        let memory = |quota_bytes| Some(Store::Memory(v1::MemoryStore { quota_bytes }));
        let field = refused(|plan| plan.store = memory(MIN_QUOTA_BYTES - 1));
        assert_eq!(field, "root.overlay.memory.quota_bytes");
        let file = Store::File(v1::FileStore { path: "lane".to_owned() });
        assert_eq!(refused(|plan| plan.store = Some(file)), "root.overlay.file.path");
        let callbacks = |id: &str, max_dirty_bytes| {
            Some(Store::Callbacks(v1::CallbackStore { id: id.to_owned(), max_dirty_bytes }))
        };
        let field = refused(|plan| plan.store = callbacks("a b", 0));
        assert_eq!(field, "root.overlay.callbacks.id");
        let field = refused(|plan| plan.store = callbacks("root", 1));
        assert_eq!(field, "root.overlay.callbacks.max_dirty_bytes");
    }

    #[test]
    fn sound_overlays_are_taken() {
        let memory = Store::Memory(v1::MemoryStore { quota_bytes: MIN_QUOTA_BYTES });
        let plan = overlay(v1::Overlay { store: Some(memory), size_bytes: 3 * MIB }).unwrap();
        let store = StorePlan::Memory { quota: MIN_QUOTA_BYTES };
        assert_eq!(plan, OverlayPlan { store, size: Some(3 * MIB) });
        let callbacks = v1::CallbackStore { id: "root".to_owned(), max_dirty_bytes: 0 };
        let plan = overlay(v1::Overlay { store: Some(Store::Callbacks(callbacks)), size_bytes: 0 })
            .unwrap();
        assert_eq!(plan.size, None);
        let store = StorePlan::Callbacks { id: "root".to_owned(), max_dirty: DIRTY_BYTES_DEFAULT };
        assert_eq!(plan.store, store);
    }
}
