//! What the tests share.

use std::fs::File;
use std::future::Future;
use std::io::{Seek, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use engine::probe::EngineKind;
use engine::{Exit, Vm, VmSpec};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Longest that anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a test on its own runtime, alone: they count what the whole process has open. `None` when
/// /dev/kvm cannot be used here; then the test is said to be skipped.
pub(crate) fn alone<T>(test: &str, body: impl Future<Output = T>) -> Option<T> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let device = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = device {
        println!("skipped: {test}: /dev/kvm: {error}");
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    Some(runtime.block_on(async { tokio::time::timeout(PATIENCE, body).await.expect("in time") }))
}

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

pub(crate) async fn boot(spec: VmSpec) -> Vm {
    engine::start(EngineKind::Krun, spec).await.unwrap()
}

pub(crate) async fn end(mut vm: Vm) -> Exit {
    tokio::time::timeout(PATIENCE, vm.wait()).await.expect("in time")
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
