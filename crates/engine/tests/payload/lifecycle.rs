//! How machines end, stand still and go on.

use std::time::Duration;

use engine::probe::EngineKind;
use engine::{ControlError, ExitReason, VmSpec};
use tokio::io::AsyncReadExt;

use crate::block_driver::{Block, SECTOR, Status, read_chain, spec_of, status, writable};
use crate::fuse_driver::{Filesystem, GETATTR, REQUESTS, ROOT, directory, reply, request};
use crate::held::{held, resident_kib};
use crate::on_every_engine;
use crate::support::{boot, read_until, spec};

on_every_engine! {
    a_guest_that_resets_ends_its_machine,
    a_panic_is_told_on_the_console_and_resets,
    kill_ends_a_guest_that_never_looks_up,
    a_paused_guest_stands_still_and_goes_on,
    a_pause_amid_requests_loses_none,
    memory_is_there_as_far_as_the_map_says,
    processors_are_as_many_as_were_asked_for,
    many_boots_leave_nothing_behind,
}

async fn a_guest_that_resets_ends_its_machine(kind: EngineKind) {
    let (mut vm, mut guest) = boot(kind, spec()).await;
    let mut console = vm.take_console();
    guest.ask("say the last words").await.unwrap();
    guest.say("triple-fault").await.unwrap();
    let exit = vm.wait().await;
    assert_eq!((exit.reason, exit.signal), (ExitReason::GuestReset, None), "{exit:?}");
    assert_eq!(exit.last_words, "");
    assert_eq!(vm.wait().await, exit, "the end is told again");
    let mut said = String::new();
    console.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "payload guest\nthe last words \n");
    assert!(guest.ask("devices").await.is_err(), "the port has an end");
    vm.kill();
    assert!(matches!(vm.pause().await, Err(ControlError::Gone)));
}

async fn a_panic_is_told_on_the_console_and_resets(kind: EngineKind) {
    let (mut vm, mut guest) = boot(kind, spec()).await;
    let mut console = vm.take_console();
    guest.say("panic").await.unwrap();
    assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
    let mut said = String::new();
    console.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("told to"), "{said}");
}

pub(crate) async fn kill_ends_a_guest_that_never_looks_up(kind: EngineKind) {
    // The last fills a console that nobody reads.
    for deed in ["loop", "halt", "count"] {
        let (mut vm, mut guest) = boot(kind, spec()).await;
        guest.devices().await.unwrap();
        guest.say(deed).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), vm.wait()).await;
        assert!(waited.is_err(), "{deed}: it runs");
        vm.pause().await.unwrap();
        vm.resume().await.unwrap();
        vm.kill();
        vm.kill();
        assert_eq!(vm.wait().await.reason, ExitReason::Killed, "{deed}");
    }
}

async fn a_pause_amid_requests_loses_none(kind: EngineKind) {
    let disk = writable(4096, 1).await;
    let share = tempfile::tempdir().unwrap();
    let spec = VmSpec {
        disks: vec![spec_of("d", &disk)],
        filesystems: vec![directory("share", share.path())],
        ..spec()
    };
    let (vm, mut guest) = boot(kind, spec).await;
    let block = Block::all(&mut guest).await.remove(0);
    let fs = Filesystem::all(&mut guest).await.remove(0);
    for round in 0..3 {
        for number in 0..15 {
            let read = read_chain(round * 100 + number * 8, 8 * SECTOR);
            guest.post(block.device, 0, &read).await.unwrap();
            let ask = request(GETATTR, ROOT, &[0; 16], 104);
            guest.post(fs.device, REQUESTS, &ask).await.unwrap();
            if number % 5 == 4 {
                vm.pause().await.unwrap();
                vm.resume().await.unwrap();
            }
        }
        for _ in 0..15 {
            let (taken, _) = guest.take(block.device, 0).await.unwrap();
            assert_eq!(status(&taken), Status::Ok);
            let (taken, _) = guest.take(fs.device, REQUESTS).await.unwrap();
            assert_eq!(reply(&taken).error, 0);
        }
    }
}

pub(crate) async fn a_paused_guest_stands_still_and_goes_on(kind: EngineKind) {
    let disk = writable(64, 1).await;
    let (mut vm, mut guest) =
        boot(kind, VmSpec { disks: vec![spec_of("d", &disk)], ..spec() }).await;
    let block = Block::all(&mut guest).await.remove(0);
    let before = block.read(&mut guest, 0, SECTOR).await;
    for _ in 0..5 {
        vm.pause().await.unwrap();
        vm.resume().await.unwrap();
        assert_eq!(block.read(&mut guest, 0, SECTOR).await, before, "devices go on");
    }
    let mut console = vm.take_console();
    guest.say("count").await.unwrap();
    read_until(&mut console, "\n9\n").await;
    for _ in 0..3 {
        vm.pause().await.unwrap();
        // What was on its way ends; then there is silence.
        let mut piece = [0; 65536];
        let silence = Duration::from_millis(300);
        while let Ok(count) = tokio::time::timeout(silence, console.read(&mut piece)).await {
            assert!(count.unwrap() > 0);
        }
        vm.resume().await.unwrap();
        read_until(&mut console, "\n").await;
    }
    vm.pause().await.unwrap();
    vm.kill();
    assert_eq!(vm.wait().await.reason, ExitReason::Killed, "also while it stands still");
}

async fn memory_is_there_as_far_as_the_map_says(kind: EngineKind) {
    for memory_mib in [64, 300] {
        let (_vm, mut guest) = boot(kind, VmSpec { memory_mib, ..spec() }).await;
        let touched = memory_mib - 24;
        let end = guest.numbers(&format!("touch {touched}")).await.unwrap()[0];
        let last = guest.bytes(&format!("peek {:#x} 8", end - 4096)).await.unwrap();
        assert_eq!(last, (end - 4096).to_le_bytes());
        assert!(guest.ask("touch 4096").await.is_err(), "there is less");
    }
}

async fn processors_are_as_many_as_were_asked_for(kind: EngineKind) {
    for cpus in [1, 2, 4] {
        let (_vm, mut guest) = boot(kind, VmSpec { cpus, ..spec() }).await;
        assert_eq!(guest.numbers("cpus").await.unwrap(), [u64::from(cpus)]);
    }
}

/// What is held after each of many machines, of which every kind of ending is one.
async fn many_boots_leave_nothing_behind(kind: EngineKind) {
    /// The first ones fill caches.
    const WARM: u64 = 4;
    let rounds = if kind == EngineKind::Qemu { 10 } else { 200 };
    let before = held();
    let mut memory = 0;
    for round in 0..rounds {
        one_boot(kind, round).await;
        // The disk's own task ends when the runtime has its turn.
        for _ in 0..1000 {
            if held() == before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(held(), before, "after machine {round}");
        match round {
            ..WARM => memory = memory.max(resident_kib()),
            _ => {
                let now = resident_kib();
                assert!(now < memory + 16 * 1024, "{memory} KiB became {now}, machine {round}");
            }
        }
    }
}

async fn one_boot(kind: EngineKind, round: u64) {
    let disk = writable(64, round).await;
    let disks = vec![spec_of("d", &disk)];
    let (mut vm, mut guest) = boot(kind, VmSpec { disks, ..spec() }).await;
    if round.is_multiple_of(3) {
        let block = Block::all(&mut guest).await.remove(0);
        block.read(&mut guest, 0, SECTOR).await;
    } else {
        guest.ask("entry").await.unwrap();
    }
    match round % 4 {
        0 => {
            guest.say("triple-fault").await.unwrap();
            assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
        }
        1 => {
            guest.say("loop").await.unwrap();
            vm.kill();
            assert_eq!(vm.wait().await.reason, ExitReason::Killed);
        }
        2 => vm.pause().await.unwrap(),
        _ => {}
    }
    disk.close().await.unwrap();
}
