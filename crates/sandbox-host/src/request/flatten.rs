//! `FlattenRequest`, checked.

use std::path::PathBuf;

use blockcow::FlattenOptions;
use protocol::v1;

use super::root::{self, RootImage, StorePlan};
use super::{RequestError, check_path};

/// A disk to flatten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlattenPlan {
    /// The disk.
    pub source: RootImage,
    /// The image to make, absolute.
    pub destination: PathBuf,
    /// How it is written.
    pub options: FlattenOptions,
}

/// A disk that is only read: whatever lies over its image is there already.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn kept(source: Option<v1::RootDisk>) -> Result<RootImage, RequestError> {
    let mut source = root::root(source)?;
    match source.overlay.as_mut().map(|overlay| &mut overlay.store) {
        Some(StorePlan::Memory { .. }) => {
            let reason = "a store in memory has nothing to read";
            Err(RequestError::new("root.overlay.store", "memory", reason))
        }
        Some(StorePlan::File { create, .. }) => {
            *create = false;
            Ok(source)
        }
        Some(StorePlan::Callbacks { .. }) | None => Ok(source),
    }
}

/// Checks a request.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn flatten(request: v1::FlattenRequest) -> Result<FlattenPlan, RequestError> {
    let v1::FlattenRequest { source, destination, cluster_bytes, compress } = request;
    check_path("destination", &destination)?;
    let source = kept(source)?;
    let cluster_bytes = match cluster_bytes {
        0 => FlattenOptions::default().cluster_bytes,
        bytes if bytes.is_power_of_two() && (4096..=2 << 20).contains(&bytes) => bytes as usize,
        bytes => {
            let reason = "it must be a power of two from 4096 to 2097152";
            return Err(RequestError::new("cluster_bytes", bytes, reason));
        }
    };
    let options = FlattenOptions { cluster_bytes, compress };
    Ok(FlattenPlan { source, destination: PathBuf::from(destination), options })
}
