//! What the tests share.

use std::fs::File;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use engine::probe::EngineKind;
use engine::{Exit, Vm, VmSpec};

pub(crate) use crate::machine::{PATIENCE, file, read_until, spec};

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

pub(crate) async fn boot(spec: VmSpec) -> Vm {
    engine::start(EngineKind::Krun, spec).await.unwrap()
}

pub(crate) async fn end(mut vm: Vm) -> Exit {
    tokio::time::timeout(PATIENCE, vm.wait()).await.expect("in time")
}
