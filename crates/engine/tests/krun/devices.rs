//! What the guest finds: the devices of the specification and three more, and nothing of which
//! nobody said a word.

use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blockcow::{Disk, ImageFormat};
use engine::{DiskSpec, FilesystemSpec, NetworkSpec, Usage, VmSpec};
use payload_guest::{Chain, Guest, KERNEL};
use vfs::Observer;
use vfs::fuse::{Limits, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};

use crate::support::{alone, boot, file, spec};

const NETWORK: u32 = 1;
const BLOCK: u32 = 2;
const CONSOLE: u32 = 3;
const ENTROPY: u32 = 4;
const BALLOON: u32 = 5;
const FILESYSTEM: u32 = 26;
/// VIRTIO_F_VERSION_1 alone.
const PLAIN: u64 = 1 << 32;
const MIB: u64 = 1 << 20;

async fn start(change: impl FnOnce(&mut VmSpec)) -> (engine::Vm, Guest) {
    let mut spec = spec(file(KERNEL));
    change(&mut spec);
    let mut vm = boot(spec).await;
    let guest = Guest::new(vm.take_control());
    (vm, guest)
}

/// As many devices as a specification can have.
pub(crate) async fn start_with_all_devices(frames: Socket, share: &Path) -> (engine::Vm, Guest) {
    start(|spec| {
        spec.disks = (0..VmSpec::MAX_DISKS).map(|index| disk(&format!("d{index}"))).collect();
        let tags = (0..VmSpec::MAX_FILESYSTEMS).map(|index| format!("share{index}"));
        spec.filesystems = tags.map(|tag| filesystem(tag, share)).collect();
        spec.network = Some(NetworkSpec { frames, mac: [2, 0, 0, 0, 0, 1], mtu: 1500 });
    })
    .await
}

fn disk(name: &str) -> DiskSpec {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(512, b'.');
    let disk = Disk::open(file(&bytes), ImageFormat::Raw).unwrap();
    DiskSpec { serial: name.to_owned(), disk: Arc::new(disk) }
}

fn filesystem(tag: String, path: &Path) -> FilesystemSpec {
    let options = HostDirOptions::new(path, Access::ReadOnly);
    let tree = HostDir::new(options, &Observer::log()).unwrap();
    let server = Arc::new(Server::new(tree, Limits::default(), Observer::log()));
    FilesystemSpec { tag, server }
}

#[test]
fn without_a_word_there_are_three_devices_and_the_line_names_no_others() {
    alone("without_a_word_there_are_three_devices_and_the_line_names_no_others", async {
        let (_vm, mut guest) = start(|_| ()).await;
        let kinds: Vec<u32> =
            guest.devices().await.unwrap().iter().map(|device| device.kind).collect();
        assert_eq!(kinds, [CONSOLE, ENTROPY, BALLOON]);
        // The window of devices, read bytewise, which registers do not answer but claim: three
        // transports, and then nothing.
        let first_bytes = async |guest: &mut Guest, index: u64| {
            guest.bytes(&format!("peek {:#x} 4", 0xd000_0000 + index * 4096)).await.unwrap()
        };
        for index in 0..3 {
            assert_eq!(first_bytes(&mut guest, index).await, [0; 4]);
        }
        for index in 3..64 {
            assert_eq!(first_bytes(&mut guest, index).await, [0xff; 4], "device {index}");
        }
        let line = String::from_utf8(guest.bytes("cmdline").await.unwrap()).unwrap();
        for strange in ["tsi", "krun", "vsock", "init=/init.krun", "KRUN", "--", "root="] {
            let is_there = line.split(' ').any(|word| word.starts_with(strange));
            assert!(!is_there, "{strange}: {line}");
        }
    });
}

#[test]
fn as_many_devices_as_are_allowed_work_each() {
    alone("as_many_devices_as_are_allowed_work_each", async {
        let (_frames, ours) = Socket::pair().unwrap();
        let share = tempfile::tempdir().unwrap();
        let (_vm, mut guest) = start_with_all_devices(ours, share.path()).await;
        let devices = guest.devices().await.unwrap();
        let count = |kind| devices.iter().filter(|device| device.kind == kind).count();
        assert_eq!(devices.len(), 24);
        assert_eq!([count(BLOCK), count(FILESYSTEM), count(NETWORK)], [4, 16, 1]);
        let mut shares = 0;
        let mut disks = 0;
        for device in devices {
            let number = device.number;
            match device.kind {
                BLOCK => {
                    guest.set_up(number, PLAIN).await.unwrap();
                    let read = Chain::out(&[0; 16]).and_input(512).and_input(1);
                    let taken = guest.run(number, 0, &read).await.unwrap();
                    let expected = format!("d{disks}.");
                    assert_eq!(&taken.inputs[0].bytes[..3], expected.as_bytes());
                    disks += 1;
                }
                FILESYSTEM => {
                    let config = guest.bytes(&format!("config {number} 0 40")).await.unwrap();
                    let tag = format!("share{shares}\0");
                    assert!(config.starts_with(tag.as_bytes()), "{config:?}");
                    assert_eq!(config[36..40], [1, 0, 0, 0]);
                    guest.set_up(number, PLAIN).await.unwrap();
                    shares += 1;
                }
                NETWORK => {
                    let config = guest.bytes(&format!("config {number} 0 12")).await.unwrap();
                    assert_eq!(config, [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0xdc, 5], "address, MTU");
                    assert_eq!(device.features & 0xff_ffff, 1 << 5 | 1 << 3, "no offloads");
                }
                _ => {}
            }
        }
        assert_eq!((disks, shares), (4, 16));
    });
}

#[test]
fn random_numbers_come_and_differ() {
    alone("random_numbers_come_and_differ", async {
        let (_vm, mut guest) = start(|_| ()).await;
        let device = guest.devices_of(ENTROPY).await.unwrap()[0].number;
        guest.set_up(device, PLAIN).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let taken = guest.run(device, 0, &Chain::input(32)).await.unwrap();
            assert_eq!(taken.length, 32);
            assert!(!seen.contains(&taken.inputs[0].bytes));
            seen.push(taken.inputs[0].bytes.clone());
        }
    });
}

#[test]
fn memory_that_the_guest_reports_free_goes_back_to_the_host() {
    alone("memory_that_the_guest_reports_free_goes_back_to_the_host", async {
        const REPORTS: usize = 2;
        const TOUCHED: u64 = 160;
        let (_vm, mut guest) = start(|spec| spec.memory_mib = 256).await;
        let device = guest.devices_of(BALLOON).await.unwrap()[0].number;
        guest.set_up(device, PLAIN | 1 << 5).await.unwrap();
        let end = guest.numbers(&format!("touch {TOUCHED}")).await.unwrap()[0];
        let used = Usage::of(std::process::id()).resident_bytes;
        // 128 MiB of what was touched, and a page more whose halves are not whole pages.
        let begin = end - 136 * MIB;
        let ranges = [(begin, 64 * MIB), (begin + 64 * MIB, 64 * MIB), (end - 2048, 2048)];
        for (index, (address, length)) in ranges.into_iter().enumerate() {
            let (flags, next) = if index < 2 { (3, index + 1) } else { (2, 0) };
            let line =
                format!("desc {device} {REPORTS} {index} {address:#x} {length} {flags} {next}");
            guest.ask(&line).await.unwrap();
        }
        guest.ask(&format!("push {device} {REPORTS} 0")).await.unwrap();
        guest.ask(&format!("notify {device} {REPORTS}")).await.unwrap();
        while guest.numbers(&format!("returned {device} {REPORTS}")).await.unwrap() != [1] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = Usage::of(std::process::id()).resident_bytes;
        println!("{} MiB, then {} MiB", used / MIB, left / MIB);
        assert!(left + 100 * MIB < used, "{used} became {left}");
        let peek = async |guest: &mut Guest, at: u64| {
            guest.bytes(&format!("peek {at:#x} 8")).await.unwrap()
        };
        assert_eq!(peek(&mut guest, begin).await, [0; 8]);
        assert_eq!(peek(&mut guest, end - 4096).await, (end - 4096).to_le_bytes(), "untouched");
        let balloon = guest.run(device, 0, &Chain::out(&[0; 4])).await.unwrap();
        assert_eq!(balloon.length, 0, "inflating it takes nothing");
    });
}

#[test]
fn many_processors_and_much_memory_are_there() {
    alone("many_processors_and_much_memory_are_there", async {
        let (_vm, mut guest) = start(|spec| spec.cpus = 64).await;
        assert_eq!(guest.numbers("cpus").await.unwrap(), [64]);
        // On both sides of the gap for devices, and as much as this host has.
        let host_mib = std::fs::read_to_string("/proc/meminfo").unwrap();
        let total = host_mib.lines().next().unwrap().split_whitespace().nth(1).unwrap();
        let most = total.parse::<u32>().unwrap() / 1024 - 1;
        for memory_mib in [3328, 3329, 5000, most] {
            if memory_mib > most {
                println!("skipped: {memory_mib} MiB: this host has {most} MiB");
                continue;
            }
            let (_vm, mut guest) = start(|spec| spec.memory_mib = memory_mib).await;
            let bytes = guest.numbers("memory").await.unwrap()[0];
            let given = u64::from(memory_mib) * MIB;
            assert!((given - MIB..=given + 4096).contains(&bytes), "{memory_mib}: {bytes}");
        }
    });
}
