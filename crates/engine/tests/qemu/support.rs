//! What the tests share.

use std::fs::{self, File};
use std::future::Future;
use std::io::{Seek, Write};
use std::path::Path;
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

/// What this process holds: descriptors, threads, children.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    descriptors: Vec<String>,
    threads: usize,
    children: String,
}

pub(crate) fn held() -> Held {
    let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| !target.contains("/proc/"))
        .collect();
    descriptors.sort();
    let tasks: Vec<_> = fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap).collect();
    let children = tasks
        .iter()
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .collect();
    let threads = tasks.iter().filter(|task| is_thread_of_ours(&task.path())).count();
    Held { descriptors, threads, children }
}

/// Whether a thread, a folder in /proc, is the crates' and alive. The harness starts and ends
/// threads of its own, named after tests, whenever it likes. A thread that was joined may still be
/// listed: the kernel wakes who joins it first and takes it off the list some steps later, which a
/// busy machine puts a pause between; by then it is marked as ending (PF_EXITING of sched.h in
/// field 9 of `stat`).
fn is_thread_of_ours(task: &Path) -> bool {
    const ENDING: u32 = 4;
    let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
    // PID (name) state parent group session terminal its-group flags …
    let Some((begin, rest)) = stat.rsplit_once(") ") else { return false };
    let name = begin.split_once('(').map_or("", |(_, name)| name);
    let flags: u32 = rest.split(' ').nth(6).unwrap().parse().unwrap();
    (name.starts_with("engine-") || name.starts_with("virtio-")) && flags & ENDING == 0
}

/// State letter of a process: `None` when it is gone.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
