//! Making images, and reading them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use blockcow::{BufferTarget, Disk, ImageFormat, OpenError, ReadError};
use tempfile::TempDir;

/// A folder with a raw image of known content, from which others are made.
pub(crate) struct Workshop {
    folder: TempDir,
    pub(crate) content: Vec<u8>,
}

impl Workshop {
    /// `None` without `qemu-img`; then the test is said to be skipped.
    pub(crate) fn new(test: &str, size: usize) -> Option<Self> {
        if Command::new("qemu-img").arg("--version").output().is_err() {
            println!("skipped: {test}: no qemu-img");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let content = content(size);
        File::create(folder.path().join("raw")).unwrap().write_all(&content).unwrap();
        Some(Self { folder, content })
    }

    pub(crate) fn raw(&self) -> PathBuf {
        self.path("raw")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The content as qcow2, with these options of `qemu-img convert`.
    pub(crate) fn convert(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.path(name);
        let raw = self.raw();
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        arguments.extend(options);
        qemu_img(&arguments, &[&raw, &path]);
        path
    }
}

pub(crate) fn qemu_img(arguments: &[&str], paths: &[&Path]) {
    let output = Command::new("qemu-img").args(arguments).args(paths).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Holes, text that compresses well, and noise that does not, in turn; borders lie anywhere.
fn content(size: usize) -> Vec<u8> {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; size];
    for (block, part) in bytes.chunks_mut(37 * 1024 + 512).enumerate() {
        match block % 5 {
            0 => {}
            1 | 2 => part
                .iter_mut()
                .enumerate()
                .for_each(|(at, byte)| *byte = b"compressible "[(at + block) % 13]),
            _ => part.iter_mut().for_each(|byte| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                *byte = noise.to_le_bytes()[0];
            }),
        }
    }
    bytes
}

pub(crate) fn open(path: &Path) -> Result<Disk, OpenError> {
    Disk::open(File::open(path).unwrap(), ImageFormat::Qcow2)
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().max_blocking_threads(4).build().unwrap()
}

pub(crate) async fn read(disk: &Disk, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0xee; length];
    disk.read(offset, &mut BufferTarget::new(&mut bytes)).await?;
    Ok(bytes)
}

/// All of a disk, in one read.
pub(crate) fn read_all(disk: &Disk) -> Result<Vec<u8>, ReadError> {
    runtime().block_on(read(disk, 0, usize::try_from(disk.size_bytes()).unwrap()))
}

/// Changes bytes of a file in place.
pub(crate) fn patch(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}
