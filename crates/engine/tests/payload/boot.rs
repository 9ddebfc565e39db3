//! What the guest is born with: devices, the command line, memory, processors.

use engine::probe::EngineKind;
use payload_guest::{Chain, checksum, pattern};

use crate::on_every_engine;
use crate::support::{boot, read_until, spec};

on_every_engine! {
    the_guest_finds_what_the_engine_says,
    the_control_port_carries_more_than_its_rings_hold_both_ways,
    random_numbers_come_and_never_the_same,
}

const VERSION_1: u64 = 1 << 32;
/// Types of devices (virtio 1.2, 5).
const CONSOLE: u32 = 3;
const ENTROPY: u32 = 4;
const BALLOON: u32 = 5;

async fn the_guest_finds_what_the_engine_says(kind: EngineKind) {
    let mut spec = spec();
    spec.memory_mib = 96;
    let (mut vm, mut guest) = boot(kind, spec).await;
    read_until(&mut vm.take_console(), "payload guest\n").await;
    let devices = guest.devices().await.unwrap();
    assert_eq!(devices.iter().filter(|device| device.kind == CONSOLE).count(), 1, "{devices:?}");
    assert!(devices.iter().all(|device| device.features & VERSION_1 != 0), "{devices:?}");
    // Nothing that nobody asked for: no sockets, no network, no disk, no filesystem.
    let others =
        devices.iter().filter(|device| ![CONSOLE, ENTROPY, BALLOON].contains(&device.kind));
    assert_eq!(others.count(), 0, "{devices:?}");
    let line = guest.bytes("cmdline").await.unwrap();
    let line = String::from_utf8(line).unwrap();
    let named = line.split(' ').filter(|word| word.starts_with("virtio_mmio.device="));
    assert_eq!(named.count(), devices.len(), "{line}");
    assert!(line.split(' ').any(|word| word == "panic=-1"), "{line}");
    for (name, value) in std::env::vars() {
        let said = value.len() > 8 && line.contains(&value) || line.contains(&format!("{name}="));
        assert!(!said, "the environment of the host, {name}, is in {line}");
    }
    for foreign in ["krun", "KRUN", "tsi", "--"] {
        assert!(!line.contains(foreign), "{line}");
    }
    // The map leaves out what the firmware takes for itself.
    let [memory] = guest.numbers("memory").await.unwrap()[..] else { panic!("one number") };
    assert!((95 << 20..=96 << 20).contains(&memory), "{memory}");
    let [entry] = guest.numbers("entry").await.unwrap()[..] else { panic!("one number") };
    assert_eq!(entry, if kind == EngineKind::Qemu { 32 } else { 64 });
    let problem = guest.ask("nonsense 9 9").await.unwrap_err();
    assert!(problem.to_string().contains("no such"), "{problem}");
}

async fn the_control_port_carries_more_than_its_rings_hold_both_ways(kind: EngineKind) {
    const LENGTH: usize = 600_000;
    let (_vm, mut guest) = boot(kind, spec()).await;
    guest.say(&format!("pour {LENGTH} 7")).await.unwrap();
    let mut poured = vec![0; LENGTH];
    guest.receive(&mut poured).await.unwrap();
    assert_eq!(checksum(&poured), checksum(&pattern(LENGTH, 7)));
    assert_eq!(guest.answer().await.unwrap(), [LENGTH.to_string()]);

    let sent = &pattern(100_000, 9)[..];
    guest.say(&format!("drink {}", sent.len())).await.unwrap();
    guest.send(sent).await.unwrap();
    let sum = sent.iter().fold(0u64, |sum, byte| sum.rotate_left(5).wrapping_add((*byte).into()));
    assert_eq!(guest.answer().await.unwrap(), [format!("{sum:#x}")]);
}

pub(crate) async fn random_numbers_come_and_never_the_same(kind: EngineKind) {
    let (_vm, mut guest) = boot(kind, spec()).await;
    let [device] = &guest.devices_of(ENTROPY).await.unwrap()[..] else { panic!("one device") };
    guest.set_up(device.number, VERSION_1).await.unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..8 {
        let taken = guest.run(device.number, 0, &Chain::input(64)).await.unwrap();
        assert!((16..=64).contains(&taken.length), "{taken:?}");
        assert!(seen.insert(taken.inputs[0].bytes[..16].to_vec()), "{taken:?}");
    }
}
