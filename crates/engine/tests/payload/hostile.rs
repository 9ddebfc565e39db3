//! Drivers that break the rules, on each of the devices that is ours: whatever they write into rings
//! and registers, the machine stays, other devices go on, and a driver that begins anew finds a
//! device that works.

use engine::probe::EngineKind;
use engine::{NetworkSpec, Vm, VmSpec};
use payload_guest::{Chain, FREE_BEGIN, Guest, checksum, pattern};

use crate::block_driver::{BLOCK, Block, SECTOR, Status, header, read_chain, spec_of, writable};
use crate::fuse_driver::{FILESYSTEM, Filesystem, GETATTR, REQUESTS, ROOT, directory, request};
use crate::on_every_engine;
use crate::support::{boot, spec};

on_every_engine! {
    chains_that_no_driver_may_make_harm_nobody_else,
    rings_that_are_nowhere_harm_nobody_else,
    registers_take_any_value,
    a_device_that_is_reset_amid_requests_answers_none_of_them_later,
    a_driver_that_floods_the_ring_gets_no_more_than_it_holds,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const NETWORK: u32 = 1;
const FEATURES: u64 = 1 << 32;

/// A machine with one device of each kind.
struct Victim {
    _vm: Vm,
    guest: Guest,
    _share: tempfile::TempDir,
    _frames: std::os::unix::net::UnixStream,
    /// Number, and the queue that is worked on.
    targets: Vec<(usize, usize)>,
}

const SECTORS: usize = 256;

impl Victim {
    async fn new(kind: EngineKind) -> Self {
        let disk = writable(SECTORS, 1).await;
        let share = tempfile::tempdir().unwrap();
        let (ours, frames) = std::os::unix::net::UnixStream::pair().unwrap();
        let spec = VmSpec {
            disks: vec![spec_of("disk", &disk)],
            filesystems: vec![directory("share", share.path())],
            network: Some(NetworkSpec { frames, mac: [2, 0, 0, 0, 0, 9], mtu: 1500 }),
            ..spec()
        };
        let (vm, mut guest) = boot(kind, spec).await;
        let mut targets = Vec::new();
        for device in guest.devices().await.unwrap() {
            match device.kind {
                BLOCK => targets.push((device.number, 0)),
                FILESYSTEM => targets.push((device.number, REQUESTS)),
                NETWORK => targets.extend([(device.number, 0), (device.number, 1)]),
                _ => {}
            }
        }
        assert_eq!(targets.len(), 4);
        Self { _vm: vm, guest, _share: share, _frames: ours, targets }
    }

    /// Begins anew with one device.
    async fn set_up(&mut self, device: usize) {
        self.guest.set_up(device, FEATURES).await.unwrap();
    }

    /// Uses each device as it is meant to be, after one of them was not.
    async fn all_work(&mut self, after: &str) {
        self.all_work_but(None, after).await;
    }

    /// The same without one that is beyond help.
    async fn all_work_but(&mut self, broken: Option<usize>, after: &str) {
        let guest = &mut self.guest;
        for device in guest.devices().await.unwrap() {
            let number = device.number;
            if broken == Some(number) || ![BLOCK, FILESYSTEM, NETWORK].contains(&device.kind) {
                continue;
            }
            guest.set_up(number, FEATURES).await.expect(after);
            match device.kind {
                BLOCK => {
                    let block = Block { device: number, offered: 0 };
                    let there = checksum(&pattern(SECTOR, 1));
                    assert_eq!(block.read(guest, 0, SECTOR).await, there, "{after}");
                }
                FILESYSTEM => {
                    let fs = Filesystem { device: number };
                    fs.init(guest).await;
                    let found = fs.call(guest, GETATTR, ROOT, &[0; 16], 104).await;
                    assert_eq!(found.error, 0, "{after}");
                }
                _ => {
                    let frame = Chain::out(&[0; 12]).and_out(&[0; 60]);
                    guest.run(number, 1, &frame).await.expect(after);
                }
            }
        }
    }
}

/// The machine to go on with, after a driver told a device that its rings are nowhere. QEMU hangs up
/// on the server of a device that cannot start: that one is beyond the help of its driver, who
/// wanted it so.
async fn after_a_bad_start(mut victim: Victim, kind: EngineKind, device: usize) -> Victim {
    let after = format!("device {device}");
    if kind == EngineKind::Qemu {
        victim.all_work_but(Some(device), &after).await;
        return Victim::new(kind).await;
    }
    victim.all_work(&after).await;
    victim
}

/// Stands for the address of the table itself.
const OWN_TABLE: u64 = 1;

/// One descriptor: address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);

async fn chains_that_no_driver_may_make_harm_nobody_else(kind: EngineKind) {
    let mut victim = Victim::new(kind).await;
    let memory = victim.guest.numbers("memory").await.unwrap()[0];
    let here = FREE_BEGIN;
    let out = |next| (here, 16, NEXT, next);
    let cases: &[(&str, &[Descriptor], &[u32])] = &[
        ("a loop of one", &[(here, 16, NEXT, 0)], &[0]),
        ("a loop of two", &[(here, 16, NEXT, 1), (here, 16, NEXT | WRITE, 0)], &[0]),
        ("a link out of the table", &[(here, 16, NEXT, 60_000)], &[0]),
        ("a head out of the table", &[], &[60_000]),
        ("no bytes", &[out(1), (here, 0, WRITE, 0)], &[0]),
        ("four gigabytes", &[out(1), (here, u32::MAX, WRITE, 0)], &[0]),
        ("past the end", &[out(1), (memory - 8, 4096, WRITE, 0)], &[0]),
        ("outside of memory", &[out(1), (0xd000_0000, 512, WRITE, 0)], &[0]),
        ("registers of devices", &[out(1), (0xfeb0_0000, 512, WRITE, 0)], &[0]),
        ("an address that wraps", &[out(1), (u64::MAX - 4, 512, WRITE, 0)], &[0]),
        ("written before read", &[(here, 1, NEXT | WRITE, 1), (here, 16, 0, 0)], &[0]),
        ("nothing to write", &[(here, 16, 0, 0)], &[0]),
        ("nothing to read", &[(here, 16, WRITE, 0)], &[0]),
        ("an indirect table of no whole entry", &[(here, 15, INDIRECT, 0)], &[0]),
        ("an indirect table that is nowhere", &[(0xd000_0000, 32, INDIRECT, 0)], &[0]),
        ("an indirect table in itself", &[(here, 16, INDIRECT, 0)], &[0]),
        ("the same head again and again", &[(here, 16, 0, 0)], &[0; 64]),
        (
            "a table as its own data",
            &[(OWN_TABLE, 4096, NEXT, 1), (OWN_TABLE, 4096, WRITE, 0)],
            &[0],
        ),
    ];
    for (device, queue) in victim.targets.clone() {
        for (name, descriptors, heads) in cases {
            println!("device {device}, queue {queue}: {name}");
            victim.set_up(device).await;
            // What is at that address: a table whose entry is a table.
            let table = format!("{}10000000040000000", hex_of(here));
            victim.guest.ask(&format!("poke {here:#x} {}", &table[..32])).await.unwrap();
            let rings = victim.guest.numbers(&format!("rings {device} {queue}")).await.unwrap();
            for (index, (address, length, flags, next)) in descriptors.iter().enumerate() {
                let address = if *address == OWN_TABLE { rings[1] } else { *address };
                let words = format!("{index} {address:#x} {length} {flags} {next}");
                victim.guest.ask(&format!("desc {device} {queue} {words}")).await.unwrap();
            }
            let heads: Vec<String> = heads.iter().map(u32::to_string).collect();
            let push = format!("push {device} {queue} {}", heads.join(" "));
            victim.guest.ask(&push).await.unwrap();
            victim.guest.ask(&format!("notify {device} {queue}")).await.unwrap();
        }
        victim.all_work(&format!("device {device}, queue {queue}")).await;
    }
}

fn hex_of(number: u64) -> String {
    number.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn rings_that_are_nowhere_harm_nobody_else(kind: EngineKind) {
    // Descriptors, available and used ring.
    const REGISTERS: [u64; 3] = [0x80, 0x90, 0xa0];
    let mut victim = Victim::new(kind).await;
    for (device, queue) in victim.targets.clone() {
        for register in REGISTERS {
            for address in [0xd000_0000u64, u64::MAX - 15, 1, (64 << 20) - 16] {
                for command in bad_start((device, queue), register, address) {
                    victim.guest.ask(&command).await.unwrap();
                }
            }
        }
        victim = after_a_bad_start(victim, kind, device).await;
    }
}

/// What a driver does to begin with a device, but for one address.
fn bad_start((device, queue): (usize, usize), register: u64, address: u64) -> Vec<String> {
    let base = FREE_BEGIN;
    let writes = [
        (0x70, 0),
        (0x70, 3),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x30, queue as u64),
        (0x38, 64),
        (0x80, base),
        (0x90, base + 4096),
        (0xa0, base + 8192),
        (register, address & 0xffff_ffff),
        (register + 4, address >> 32),
        (0x44, 1),
        (0x70, 15),
        (0x50, queue as u64),
    ];
    writes.map(|(register, value)| format!("write {device} {register} {value}")).to_vec()
}

async fn registers_take_any_value(kind: EngineKind) {
    let mut victim = Victim::new(kind).await;
    for (device, _) in victim.targets.clone() {
        // Sizes that are no power of two, or more than there may be; features that nobody offers;
        // queues that are not there; notifications before anything is ready; all bits of the
        // status; registers that cannot be written, that do not exist, and the configuration.
        let mut commands = vec![format!("reset {device}")];
        for (register, value) in [
            (0x50, 0),
            (0x50, u32::MAX),
            (0x24, 1),
            (0x20, u32::MAX),
            (0x24, 77),
            (0x20, u32::MAX),
            (0x14, u32::MAX),
            (0x30, 60_000),
            (0x38, 64),
            (0x44, 1),
            (0x30, 0),
            (0x38, 0),
            (0x44, 1),
            (0x38, 3),
            (0x44, 1),
            (0x38, 65_535),
            (0x44, 1),
            (0x44, u32::MAX),
            (0x44, 0),
            (0x64, u32::MAX),
            (0, 0),
            (4, 0),
            (8, 0),
            (0x60, 1),
            (0xfc, 1),
            (0x48, 1),
            (0xc0, 1),
            (0x100, u32::MAX),
            (0x13c, u32::MAX),
            (0x1fc, u32::MAX),
            (0x70, 0xff),
            (0x70, 4),
            (0x50, 0),
            (0x50, 7),
        ] {
            commands.push(format!("write {device} {register} {value}"));
        }
        commands.extend((0..0x200).step_by(4).map(|at| format!("read {device} {at}")));
        for command in commands {
            victim.guest.ask(&command).await.unwrap();
        }
        // A feature that was not offered is not taken.
        victim.guest.ask(&format!("reset {device}")).await.unwrap();
        for (register, value) in [(0x70, 3), (0x24, 1), (0x20, 1 | 1 << 30), (0x70, 11)] {
            victim.guest.ask(&format!("write {device} {register} {value}")).await.unwrap();
        }
        if kind == EngineKind::Krun {
            let status = victim.guest.numbers(&format!("read {device} 0x70")).await.unwrap()[0];
            assert_eq!(status & 8, 0, "device {device}");
        }
        victim = after_a_bad_start(victim, kind, device).await;
    }
}

async fn a_device_that_is_reset_amid_requests_answers_none_of_them_later(kind: EngineKind) {
    let mut victim = Victim::new(kind).await;
    for (device, queue) in victim.targets[..2].to_vec() {
        let is_block = victim.guest.devices_of(BLOCK).await.unwrap()[0].number == device;
        for round in 0..5 {
            victim.set_up(device).await;
            let chain = match is_block {
                true => read_chain(round, 8 * SECTOR),
                false => request(GETATTR, ROOT, &[0; 16], 104),
            };
            for _ in 0..20 {
                victim.guest.post(device, queue, &chain).await.unwrap();
            }
            // The new ring is where the old one was: what is answered late would be seen.
            victim.set_up(device).await;
            let returned = format!("returned {device} {queue}");
            assert_eq!(victim.guest.numbers(&returned).await.unwrap(), [0]);
            if is_block {
                let block = Block { device, offered: 0 };
                let there = checksum(&pattern(SECTOR, 1 + 7 * 64));
                assert_eq!(block.read(&mut victim.guest, 7, SECTOR).await, there);
            } else {
                Filesystem { device }.init(&mut victim.guest).await;
            }
            assert_eq!(victim.guest.numbers(&returned).await.unwrap(), [0]);
        }
    }
    victim.all_work("resets").await;
}

async fn a_driver_that_floods_the_ring_gets_no_more_than_it_holds(kind: EngineKind) {
    let mut victim = Victim::new(kind).await;
    let block = Block::all(&mut victim.guest).await.remove(0);
    let device = block.device;
    let [_, _, available, _] =
        victim.guest.numbers(&format!("rings {device} 0")).await.unwrap()[..]
    else {
        panic!("four numbers")
    };
    // An index that is far ahead of what can be there.
    for index in ["0008", "ffff", "0180"] {
        victim.set_up(device).await;
        victim.guest.ask(&format!("poke {:#x} {index}", available + 2)).await.unwrap();
        victim.guest.ask(&format!("notify {device} 0")).await.unwrap();
        victim.guest.ask(&format!("notify {device} 0")).await.unwrap();
    }
    victim.all_work("floods").await;
    // Data that begins in the middle of everything: the header split over segments.
    victim.set_up(device).await;
    let head = header(0, 3);
    let chain = Chain::out(&head[..1]).and_out(&head[1..9]).and_out(&head[9..]);
    let chain = chain.and_input(100).and_input(412).and_input(1);
    let taken = victim.guest.run(device, 0, &chain).await.unwrap();
    let there = pattern(SECTOR, 1 + 3 * 64);
    assert_eq!(taken.inputs[0].bytes, there[..100]);
    assert_eq!(taken.inputs[1].sum, checksum(&there[100..]));
    assert_eq!(crate::block_driver::status(&taken), Status::Ok);
}
