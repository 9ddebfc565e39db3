//! What the tests share.

use std::fs;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use blockcow::{Disk, ImageFormat};
use engine::probe::EngineKind;
use engine::{DiskSpec, Vm, VmSpec};

pub(crate) use crate::machine::{PATIENCE, file, read_until, spec};

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

pub(crate) async fn boot(spec: VmSpec) -> Vm {
    engine::start(EngineKind::Qemu, spec).await.unwrap()
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
