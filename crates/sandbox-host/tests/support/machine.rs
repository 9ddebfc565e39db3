//! A boot of real files.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::v1;
use sha2::{Digest, Sha256};

/// Where kernel, initramfs and root image are.
pub(crate) struct Machine {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) image: PathBuf,
}

impl Machine {
    /// What a helper that boots it must be granted.
    #[allow(dead_code, reason = "not every program that boots one starts the helper")]
    pub(crate) fn grants(&self) -> [String; 3] {
        let grant = |how: &str, path| format!("--grant={how}:{}", text(path));
        let (kernel, initramfs) = (grant("engine", &self.kernel), grant("engine", &self.initramfs));
        [kernel, initramfs, grant("read", &self.image)]
    }

    /// A boot of them with software emulation.
    pub(crate) fn request(&self) -> v1::BootRequest {
        let format = match self.image.extension().is_some_and(|suffix| suffix == "qcow2") {
            true => v1::DiskFormat::Qcow2,
            false => v1::DiskFormat::Raw,
        };
        v1::BootRequest {
            minimum_isolation: v1::IsolationKind::Emulated.into(),
            cpus: 1,
            memory_mib: 256,
            kernel: Some(artifact(&self.kernel)),
            initramfs: Some(artifact(&self.initramfs)),
            root: Some(v1::RootDisk {
                path: text(&self.image),
                format: format.into(),
                digest: digest(&self.image),
                size_bytes: fs::metadata(&self.image).unwrap().len(),
                ..v1::RootDisk::default()
            }),
            hostname: "sandbox".to_owned(),
            ..v1::BootRequest::default()
        }
    }
}

fn artifact(path: &Path) -> v1::Artifact {
    v1::Artifact { path: text(path), digest: digest(path) }
}

fn text(path: &Path) -> String {
    fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

fn digest(path: &Path) -> String {
    let hash = Sha256::digest(fs::read(path).unwrap());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}
