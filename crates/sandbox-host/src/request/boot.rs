//! `BootRequest`, checked.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use engine::probe::{EngineKind, IsolationKind};
use protocol::v1;

use super::mount::{self, MountPlan};
use super::network::{self, NetworkPlan};
use super::root::{self, RootImage};
use super::{RequestError, check_env, check_path};
use crate::artifact::Digest;
use crate::limits::{BOOT_DEFAULT, MAX_DEADLINE_MS};

const CPUS: std::ops::RangeInclusive<u32> = 1..=64;
const MEMORY_MIB: std::ops::RangeInclusive<u32> = 128..=1_048_576;
/// Linux's limit for a host name.
const HOSTNAME_BYTES: usize = 64;
/// RFC 1123, section 2.1, and RFC 1034, section 3.1.
const LABEL_BYTES: usize = 63;

/// A boot that makes sense.
#[derive(Debug)]
pub struct BootPlan {
    /// The weakest isolation that is accepted.
    pub minimum: IsolationKind,
    /// The only engine that is accepted, when the client names one.
    pub engine: Option<EngineKind>,
    /// Virtual processors.
    pub cpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// The kernel.
    pub kernel: ArtifactPath,
    /// The initial filesystem.
    pub initramfs: ArtifactPath,
    /// The root filesystem's image.
    pub root: RootImage,
    /// Name of the guest.
    pub hostname: String,
    /// Working directory, absolute.
    pub cwd: String,
    /// Environment of every process.
    pub env: HashMap<String, String>,
    /// Filesystems beside the root, parents first.
    pub mounts: Vec<MountPlan>,
    /// The network, if there is one.
    pub network: Option<NetworkPlan>,
    /// Time for the whole boot.
    pub deadline: Duration,
}

/// A file and the digest that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactPath {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// SHA-256 of the whole file.
    pub digest: Digest,
}

/// Checks a request.
///
/// # Errors
/// [`RequestError`] names the first field that does not make sense.
pub fn boot(mut request: v1::BootRequest) -> Result<BootPlan, RequestError> {
    // First, because what is in it should not stay in memory, whatever else is wrong.
    let network = request.network.take();
    let network = network.map(|given| network::network(given, &request.env)).transpose()?;
    let minimum = minimum(request.minimum_isolation)?;
    let engine = engine(request.engine)?;
    in_range("cpus", request.cpus, CPUS)?;
    in_range("memory_mib", request.memory_mib, MEMORY_MIB)?;
    check_hostname(&request.hostname)?;
    if !request.cwd.is_empty() {
        check_path("cwd", &request.cwd)?;
    }
    check_env("env", &request.env)?;
    Ok(BootPlan {
        minimum,
        engine,
        cpus: request.cpus,
        memory_mib: request.memory_mib,
        kernel: artifact(["kernel", "kernel.path", "kernel.digest"], request.kernel)?,
        initramfs: artifact(
            ["initramfs", "initramfs.path", "initramfs.digest"],
            request.initramfs,
        )?,
        root: root::root(request.root)?,
        hostname: request.hostname,
        cwd: if request.cwd.is_empty() { "/".to_owned() } else { request.cwd },
        mounts: mount::mounts(request.mounts)?,
        network,
        env: request.env,
        deadline: deadline(request.deadline_ms, BOOT_DEFAULT)?,
    })
}

/// A deadline in milliseconds, 0 for the default.
pub(crate) fn deadline(ms: u32, default: Duration) -> Result<Duration, RequestError> {
    match ms {
        0 => Ok(default),
        1..=MAX_DEADLINE_MS => Ok(Duration::from_millis(ms.into())),
        _ => {
            let reason = format!(
                "it must be from 1 to {MAX_DEADLINE_MS} milliseconds, or 0 for the default"
            );
            Err(RequestError::new("deadline_ms", ms, reason))
        }
    }
}

fn minimum(value: i32) -> Result<IsolationKind, RequestError> {
    match v1::IsolationKind::try_from(value) {
        Ok(v1::IsolationKind::Hardware) => Ok(IsolationKind::Hardware),
        Ok(v1::IsolationKind::Emulated) => Ok(IsolationKind::Emulated),
        Ok(v1::IsolationKind::Unspecified) | Err(_) => Err(RequestError::new(
            "minimum_isolation",
            value,
            "it must be ISOLATION_KIND_HARDWARE or ISOLATION_KIND_EMULATED",
        )),
    }
}

fn engine(value: i32) -> Result<Option<EngineKind>, RequestError> {
    match v1::EngineKind::try_from(value) {
        Ok(v1::EngineKind::Unspecified) => Ok(None),
        Ok(v1::EngineKind::Krun) => Ok(Some(EngineKind::Krun)),
        Ok(v1::EngineKind::Qemu) => Ok(Some(EngineKind::Qemu)),
        Err(_) => Err(RequestError::new(
            "engine",
            value,
            "it must be ENGINE_KIND_UNSPECIFIED, ENGINE_KIND_KRUN or ENGINE_KIND_QEMU",
        )),
    }
}

fn in_range(
    field: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<(), RequestError> {
    if range.contains(&value) {
        return Ok(());
    }
    let reason = format!("it must be from {} to {}", range.start(), range.end());
    Err(RequestError::new(field, value, reason))
}

/// RFC 1123, section 2.1: labels of letters, digits and dashes, with no dash at either end.
fn check_hostname(name: &str) -> Result<(), RequestError> {
    let label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= HOSTNAME_BYTES && name.split('.').all(label) {
        return Ok(());
    }
    let reason = format!(
        "it must be labels of letters, digits and inner dashes, joined by dots, \
         {HOSTNAME_BYTES} bytes at most"
    );
    Err(RequestError::new("hostname", name, reason))
}

/// `fields` are the names of the message, its path and its digest.
pub(super) fn artifact(
    fields: [&'static str; 3],
    artifact: Option<v1::Artifact>,
) -> Result<ArtifactPath, RequestError> {
    let Some(artifact) = artifact else {
        return Err(RequestError {
            field: fields[0].into(),
            value: "absent".to_owned(),
            reason: "it is required".to_owned(),
        });
    };
    check_path(fields[1], &artifact.path)?;
    Ok(ArtifactPath {
        path: PathBuf::from(&artifact.path),
        digest: digest(fields[2], &artifact.digest)?,
    })
}

fn digest(field: &'static str, text: &str) -> Result<Digest, RequestError> {
    text.parse().map_err(|()| {
        RequestError::new(field, text, "it must be \"sha256:\" and 64 hexadecimal digits")
    })
}

#[cfg(test)]
mod tests;
