//! Disk images of known content.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Bytes of a disk, in a raw image.
pub(crate) struct Content {
    file: NamedTempFile,
    digest: String,
}

impl Content {
    /// Holes, text that compresses well, and noise that does not, in turn.
    pub(crate) fn new(size: usize) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        let mut digest = Sha256::new();
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut written = 0;
        for block in 0.. {
            let length = (37 * 1024).min(size - written);
            if length == 0 {
                break;
            }
            let bytes: Vec<u8> = match block % 5 {
                0 => vec![0; length],
                1 | 2 => (0..length).map(|at| b"compressible "[(at + block) % 13]).collect(),
                _ => (0..length)
                    .map(|_| {
                        noise ^= noise << 13;
                        noise ^= noise >> 7;
                        noise ^= noise << 17;
                        noise.to_le_bytes()[0]
                    })
                    .collect(),
            };
            digest.update(&bytes);
            file.write_all(&bytes).unwrap();
            written += length;
        }
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { file, digest }
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn sha256(&self) -> String {
        self.digest.clone()
    }
}

/// The content in another format, by `qemu-img`.
pub(crate) fn convert(content: &Content, format: &str, options: &[&str]) -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", format])
        .args(options)
        .arg(content.path())
        .arg(image.path())
        .status()
        .expect("qemu-img comes with QEMU");
    assert!(status.success());
    image
}
