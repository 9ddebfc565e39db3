//! How machines begin and end.

use std::time::Duration;

use engine::{ControlError, ExitReason};
use tokio::io::AsyncReadExt;

use crate::flat_kernel::{Then, flat_kernel};
use crate::held::held;
use crate::support::{alone, boot, end, read_until, spec};

#[test]
fn each_way_to_reset_ends_the_machine_and_the_console_after_its_last_byte() {
    alone("each_way_to_reset_ends_the_machine_and_the_console_after_its_last_byte", async {
        for then in [Then::TripleFault, Then::KeyboardReset, Then::ChipsetReset] {
            let before = held();
            let mut vm = boot(spec(flat_kernel(b"hello\n", then))).await;
            let mut console = vm.take_console();
            let exit = end(vm).await;
            assert_eq!((exit.code, exit.signal), (None, None), "{then:?}");
            assert_eq!(exit.reason, ExitReason::GuestReset, "{then:?}: {exit:?}");
            let mut said = String::new();
            console.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "hello\n", "{then:?}");
            drop(console);
            assert_eq!(held(), before);
        }
    });
}

#[test]
fn what_kvm_cannot_do_is_told_with_the_instruction_s_address() {
    alone("what_kvm_cannot_do_is_told_with_the_instruction_s_address", async {
        let vm = boot(spec(flat_kernel(b".", Then::NoMemory))).await;
        let exit = end(vm).await;
        assert_eq!(exit.reason, ExitReason::Failed);
        assert!(exit.last_words.contains("0x10000000"), "{}", exit.last_words);
    });
}

#[test]
fn a_machine_that_never_ends_by_itself_is_killed_or_dropped_and_leaves_nothing() {
    alone("a_machine_that_never_ends_by_itself_is_killed_or_dropped_and_leaves_nothing", async {
        let before = held();
        for then in [Then::Halt, Then::Spin, Then::Repeat] {
            for kill in [true, false] {
                let mut given = spec(flat_kernel(b"up\n", then));
                given.cpus = 2;
                let mut vm = boot(given).await;
                let mut console = vm.take_console();
                read_until(&mut console, "up\n").await;
                if kill {
                    vm.kill();
                    vm.kill();
                    assert_eq!(vm.wait().await.reason, ExitReason::Killed, "{then:?}");
                    assert_eq!(vm.wait().await.reason, ExitReason::Killed, "again");
                }
                drop(vm);
                drop(console);
                assert_eq!(held(), before, "{then:?}");
            }
        }
    });
}

#[test]
fn a_start_that_is_given_up_leaves_nothing() {
    alone("a_start_that_is_given_up_leaves_nothing", async {
        let before = held();
        for micros in [0, 100, 1_000, 6_000, 12_000] {
            let start = boot(spec(flat_kernel(b".", Then::Spin)));
            let _ = tokio::time::timeout(Duration::from_micros(micros), start).await;
            assert_eq!(held(), before, "after {micros} µs");
        }
    });
}

#[test]
fn a_paused_machine_prints_nothing_and_goes_on_where_it_was() {
    alone("a_paused_machine_prints_nothing_and_goes_on_where_it_was", async {
        for cpus in [1, 3] {
            let mut given = spec(flat_kernel(b"tick ", Then::Repeat));
            given.cpus = cpus;
            let mut vm = boot(given).await;
            let mut console = vm.take_console();
            read_until(&mut console, "tick tick").await;
            vm.pause().await.unwrap();
            vm.pause().await.unwrap();
            // What it had printed before, and at most a byte a processor after.
            let mut late = vec![0; 1 << 20];
            let mut quiet = async || {
                let read = console.read(&mut late);
                tokio::time::timeout(Duration::from_millis(200), read).await.is_err()
            };
            while !quiet().await {}
            vm.resume().await.unwrap();
            read_until(&mut console, "tick tick").await;
            vm.kill();
            vm.wait().await;
            assert!(matches!(vm.pause().await, Err(ControlError::Gone)));
            assert!(matches!(vm.resume().await, Err(ControlError::Gone)));
        }
    });
}

#[test]
fn pauses_in_quick_succession_lose_no_processor() {
    alone("pauses_in_quick_succession_lose_no_processor", async {
        let mut given = spec(flat_kernel(b"tick ", Then::Repeat));
        given.cpus = 4;
        let mut vm = boot(given).await;
        let mut console = vm.take_console();
        let reader = tokio::spawn(async move {
            let mut all = vec![0; 1 << 16];
            while console.read(&mut all).await.is_ok_and(|count| count > 0) {}
        });
        for round in 0..200 {
            vm.pause().await.unwrap();
            if round % 3 == 0 {
                tokio::task::yield_now().await;
            }
            vm.resume().await.unwrap();
        }
        vm.kill();
        assert_eq!(vm.wait().await.reason, ExitReason::Killed);
        reader.await.unwrap();
    });
}

#[test]
fn a_console_that_nobody_reads_holds_up_neither_a_pause_nor_the_end() {
    alone("a_console_that_nobody_reads_holds_up_neither_a_pause_nor_the_end", async {
        let before = held();
        let mut vm = boot(spec(flat_kernel(b"more and more\n", Then::Repeat))).await;
        let mut console = vm.take_console();
        read_until(&mut console, "more").await;
        // Until its socket is full.
        tokio::time::sleep(Duration::from_millis(300)).await;
        vm.pause().await.unwrap();
        vm.resume().await.unwrap();
        vm.kill();
        assert_eq!(vm.wait().await.reason, ExitReason::Killed);
        drop((vm, console));
        assert_eq!(held(), before);
    });
}

#[test]
fn a_paused_machine_can_be_killed() {
    alone("a_paused_machine_can_be_killed", async {
        let mut vm = boot(spec(flat_kernel(b".", Then::Spin))).await;
        vm.pause().await.unwrap();
        vm.kill();
        assert_eq!(vm.wait().await.reason, ExitReason::Killed);
    });
}

#[test]
fn the_command_line_is_ours_alone_whatever_the_environment_says() {
    const TEST: &str = "the_command_line_is_ours_alone_whatever_the_environment_says";
    // What libkrun's own programs hand on, or look at.
    const KNOWN: [&str; 6] =
        ["KRUN_ENV", "KRUN_INIT", "KRUN_ENOMEM_WORKAROUND", "MSB_KRUN_BOOT_TRACE", "HOME", "TERM"];
    if std::env::var_os("KRUN_ENV").is_none() {
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("lifecycle::{TEST}"), "--nocapture"])
            .envs(KNOWN.map(|name| (name, "from-the-environment")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        print!("{said}");
        assert!(again.status.success() && said.contains("1 passed"), "{again:?}");
        return;
    }
    alone(TEST, async {
        let mut vm = boot(spec(flat_kernel(b".", Then::PrintCommandLine))).await;
        let line = read_until(&mut vm.take_console(), "\n").await;
        println!("{line}");
        let words: Vec<&str> = line.trim_start_matches('.').split_whitespace().collect();
        let devices = [
            "virtio_mmio.device=4K@0xd0000000:5",
            "virtio_mmio.device=4K@0xd0001000:6",
            "virtio_mmio.device=4K@0xd0002000:7",
        ];
        assert_eq!(words[words.len() - 3..], devices);
        let known = [
            "console=ttyS0",
            "quiet",
            "panic=-1",
            "reboot=t",
            "pci=off",
            "lapic_timer_khz=",
            "no_timer_check",
            "noreplace-smp",
            "keepinitmem",
            "swiotlb=noforce",
            "dummy.numdummies=0",
            "rdinit=/init",
            "i8042.noaux",
            "i8042.nokbd",
            "tsc_early_khz=",
            "tsc=reliable",
            "lpj=",
            "virtio_mmio.device=",
        ];
        let strange = words.iter().find(|word| !known.iter().any(|known| word.starts_with(known)));
        assert_eq!(strange, None, "{line}");
    });
}
