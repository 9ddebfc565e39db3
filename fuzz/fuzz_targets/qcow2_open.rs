//! A qcow2 image as the fuzzer likes it: opened and, when that succeeds, read to its end.
#![no_main]

use std::io::{Seek, Write};
use std::sync::OnceLock;

use blockcow::{BufferTarget, Disk, ImageFormat};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// Most bytes of a disk that are read: the fuzzer should spend its time elsewhere.
const MOST: usize = 1 << 20;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().max_blocking_threads(1).build().unwrap())
}

fuzz_target!(|input: &[u8]| {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    file.rewind().unwrap();
    let Ok(disk) = Disk::open(file, ImageFormat::Qcow2) else { return };
    let length = usize::try_from(disk.size_bytes()).unwrap().min(MOST);
    let mut bytes = vec![0; length];
    for offset in [0, disk.size_bytes() - length as u64] {
        let _ = runtime().block_on(disk.read(offset, &mut BufferTarget::new(&mut bytes)));
    }
});
