//! What the tests share.

use std::fs::{self, File};
use std::future::Future;
use std::io::{Seek, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blockcow::{Disk, ImageFormat};
use engine::probe::EngineKind;
use engine::{DiskSpec, Vm, VmSpec};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Longest that anything may take here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a test on its own runtime, alone: they count what the whole process has open. `None` when
/// there is no QEMU here; then the test is said to be skipped.
pub(crate) fn alone<T>(test: &str, body: impl Future<Output = T>) -> Option<T> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let usable = |finding: &engine::probe::Finding| {
        finding.engine == EngineKind::Qemu && finding.code == engine::probe::FindingCode::Ok
    };
    if !engine::probe::probe().iter().any(usable) {
        println!("skipped: {test}: there is no usable QEMU");
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
    engine::start(EngineKind::Qemu, spec).await.unwrap()
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

/// A disk whose every sector begins with its number, after `name`.
pub(crate) fn disk(name: &str, sectors: u32) -> DiskSpec {
    let mut bytes = Vec::new();
    for sector in 0..sectors {
        let mut text = format!("{name} {sector} ").into_bytes();
        text.resize(512, b'.');
        bytes.extend_from_slice(&text);
    }
    let disk = Disk::open(file(&bytes), ImageFormat::Raw).unwrap();
    DiskSpec { serial: name.to_owned(), disk: Arc::new(disk) }
}

/// State letter of a process: `None` when it is gone.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
