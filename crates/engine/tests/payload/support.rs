//! What the tests share.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::probe::{EngineKind, FindingCode};
use engine::{Vm, VmSpec};
use payload_guest::Guest;
use tokio::runtime::Runtime;

use crate::machine;
pub(crate) use crate::machine::{PATIENCE, file, read_until};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs a test on its own runtime, alone. Where the engine is not to be had, the test is said to be
/// skipped.
pub(crate) fn on<F: Future<Output = ()>>(
    kind: EngineKind,
    test: &str,
    body: impl FnOnce(EngineKind) -> F,
) {
    let _turn = one_at_a_time();
    if let Some(reason) = unusable(kind) {
        println!("skipped: {test} on {kind}: {reason}");
        return;
    }
    runtime().block_on(async {
        tokio::time::timeout(PATIENCE, body(kind)).await.expect("in time");
    });
}

/// Held by a test that counts what its process has open, or that needs its processor.
pub(crate) fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a test runs on.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Why an engine cannot run here. The payload guest needs less of the processor than Linux does:
/// that kernel mode is emulated is no reason.
pub(crate) fn unusable(kind: EngineKind) -> Option<String> {
    let finding = engine::probe::probe().into_iter().find(|finding| finding.engine == kind)?;
    let runs = matches!(finding.code, FindingCode::Ok | FindingCode::KernelModeEmulated);
    (!runs).then_some(finding.detail)
}

/// A machine with the payload guest and nothing else to it.
pub(crate) fn spec() -> VmSpec {
    machine::spec(file(payload_guest::KERNEL))
}

/// Starts a machine, and the conversation with its guest.
pub(crate) async fn boot(kind: EngineKind, spec: VmSpec) -> (Vm, Guest) {
    let mut vm = engine::start(kind, spec).await.unwrap();
    let guest = Guest::new(vm.take_control());
    (vm, guest)
}
