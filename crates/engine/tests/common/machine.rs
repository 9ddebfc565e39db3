//! Machines of tests, and what they say.

use std::fs::File;
use std::io::{Seek, Write};
use std::time::Duration;

use engine::VmSpec;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Longest that a test, or a part of it, may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A machine with this kernel and nothing else to it.
pub(crate) fn spec(kernel: File) -> VmSpec {
    VmSpec {
        cpus: 1,
        memory_mib: 64,
        kernel,
        initramfs: file(&[0; 512]),
        control_port: "test.control".to_owned(),
        disks: Vec::new(),
        filesystems: Vec::new(),
        network: None,
    }
}

/// A file that holds these bytes.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// Reads until the text has come; all that was read.
pub(crate) async fn read_until(stream: &mut UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let found = async {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = stream.read(&mut piece).await.unwrap();
            assert!(count > 0, "the end came before {text:?}");
            seen.extend_from_slice(&piece[..count]);
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(found.is_ok(), "{text:?} did not come, only: {seen}");
    seen
}
