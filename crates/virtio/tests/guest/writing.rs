//! A file system on a writable disk, and a power failure.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcow::{
    BufferTarget, Disk, FileStore, FileStoreError, ImageFormat, OverlayOptions, StoreContext,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use virtio::BlockOptions;

use crate::machine::{self, Machine};

const BASE: &str = "sha256:base";
const FILES: usize = 12;
/// The file system is as large as the base, the disk larger.
const BASE_BYTES: u64 = 48 << 20;
const DISK_BYTES: u64 = 64 << 20;

/// Opens the store as soon as what the disk before had under way has ended.
fn store(path: &Path) -> FileStore {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match FileStore::open_or_create(path, BASE) {
            Err(FileStoreError::Locked) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn writable(runtime: &Runtime, base: &Path, path: &Path) -> Arc<Disk> {
    let base = Disk::open(File::open(base).unwrap(), ImageFormat::Raw).unwrap();
    let context = StoreContext { base: Arc::from(BASE), generation: 1 };
    let options = OverlayOptions { size_bytes: Some(DISK_BYTES), ..OverlayOptions::default() };
    let opened = base.with_store(Arc::new(store(path)), context, options);
    Arc::new(runtime.block_on(opened).unwrap())
}

fn run(program: &str, arguments: &[&str], path: &Path) -> std::process::Output {
    Command::new(program).args(arguments).arg(path).output().unwrap()
}

/// The disk as a raw image.
fn copy(runtime: &Runtime, disk: &Disk, path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut bytes = vec![0; 1 << 20];
    for offset in (0..disk.size_bytes()).step_by(bytes.len()) {
        let mut target = BufferTarget::new(&mut bytes);
        runtime.block_on(disk.read(offset, &mut target)).unwrap();
        file.write_all(&bytes).unwrap();
    }
}

#[test]
fn what_a_guest_has_synced_outlives_it_and_its_file_system_is_clean() {
    let test = "what_a_guest_has_synced_outlives_it_and_its_file_system_is_clean";
    let _turn = machine::turn();
    let Some(mut machine) = Machine::new(test) else { return };
    let folder = TempDir::new().unwrap();
    let (base, path) = (folder.path().join("base"), folder.path().join("store"));
    File::create(&base).unwrap().set_len(BASE_BYTES).unwrap();
    let made = run("mkfs.ext4", &["-q", "-b", "4096", "-O", "64bit,metadata_csum"], &base);
    assert!(made.status.success(), "{made:?}");

    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let disk = writable(&runtime, &base, &path);
    let options = BlockOptions { serial: "disk-0".to_owned(), queues: 2 };
    let server = virtio::serve_block(machine.add_disk(2), Arc::clone(&disk), options).unwrap();
    let running = machine.start(&format!(
        "
mount -t ext4 -o discard /dev/vda /mnt || echo not mounted
n=1
while [ $n -le {FILES} ]; do
  yes \"file $n\" | dd of=/mnt/file-$n bs=9000 count=$n iflag=fullblock conv=fsync 2>/dev/null
  n=$((n + 1))
done
sync
cat /sys/block/vda/queue/write_cache /sys/block/vda/queue/discard_max_bytes
echo all-is-synced
while :; do
  dd if=/dev/urandom of=/mnt/noise bs=64k count=40 2>/dev/null
  rm /mnt/noise
done"
    ));
    let output = running.read_until("all-is-synced");
    assert!(!output.contains("not mounted"), "{output}");
    assert!(output.contains("write back"), "{output}");
    assert!(output.contains(&format!("{}", 256 << 20)), "{output}");
    // The machine dies amid its writes, and the helper's memory with it.
    std::thread::sleep(Duration::from_millis(500));
    drop(running);
    server.stop().unwrap();
    drop(disk);

    let disk = writable(&runtime, &base, &path);
    let image = folder.path().join("image");
    copy(&runtime, &disk, &image);
    let replayed = run("e2fsck", &["-y", "-E", "journal_only"], &image);
    assert!(matches!(replayed.status.code(), Some(0 | 1)), "{replayed:?}");
    let checked = run("e2fsck", &["-fn"], &image);
    assert!(checked.status.success(), "{checked:?}");
    for number in 1..=FILES {
        let found = run("debugfs", &["-R", &format!("cat /file-{number}")], &image).stdout;
        let line = format!("file {number}\n").into_bytes();
        let expected: Vec<u8> = line.iter().copied().cycle().take(9000 * number).collect();
        assert!(found == expected, "file {number} has {} bytes", found.len());
    }
}
