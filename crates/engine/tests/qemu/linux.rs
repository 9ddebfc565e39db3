//! With Linux in the machine.

use engine::ExitReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::linux_guest::linux;
use crate::support::{alone, boot, read_until};

#[test]
fn linux_sees_the_processors_and_the_memory_it_was_given() {
    const TEST: &str = "linux_sees_the_processors_and_the_memory_it_was_given";
    const SCRIPT: &str = r#"
echo "cpus $(grep -c ^processor /proc/cpuinfo) $(head -1 /proc/meminfo | tr -s ' ') end" >$port
reboot -f"#;
    alone(TEST, async {
        // On both sides of 3 GiB, where a microvm splits its memory.
        for (cpus, memory_mib) in [(1, 128), (2, 3072), (4, 4096)] {
            let Some(mut spec) = linux(TEST, SCRIPT) else { return };
            (spec.cpus, spec.memory_mib) = (cpus, memory_mib);
            let mut vm = boot(spec).await;
            let said = read_until(&mut vm.take_control(), "end").await;
            let words: Vec<&str> = said.split_whitespace().collect();
            assert_eq!(words[..2], ["cpus", &cpus.to_string()], "{said}");
            let kib: u32 = words[3].parse().unwrap();
            let given = memory_mib * 1024;
            // What the kernel keeps for itself: its own image, and its table of pages.
            let kept = 24 * 1024 + given / 32;
            assert!((given - kept..=given).contains(&kib), "{said}");
            assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
        }
    });
}

#[test]
fn the_clock_is_the_host_s_counter_at_its_true_pace() {
    const TEST: &str = "the_clock_is_the_host_s_counter_at_its_true_pace";
    const SCRIPT: &str = r#"
dmesg | grep -o 'tsc: Detected.*' >$port
echo "source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" >$port
reboot -f"#;
    alone(TEST, async {
        let Some(spec) = linux(TEST, SCRIPT) else { return };
        let mut vm = boot(spec).await;
        let said = read_until(&mut vm.take_control(), "source ").await;
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", vm.process_id().unwrap()));
        if !line.is_ok_and(|line| line.contains("tsc=reliable")) {
            println!("skipped: {TEST}: the counter of this host is not steady");
            return;
        }
        assert!(said.contains("Detected"), "{said}");
        assert!(said.contains("source tsc"), "{said}");
        assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
    });
}

#[test]
fn the_control_port_carries_bytes_both_ways_unharmed() {
    const TEST: &str = "the_control_port_carries_bytes_both_ways_unharmed";
    const LENGTH: usize = 1_000_000;
    let script = format!(
        r#"
echo ready >$port
head -c {LENGTH} <$port >/mnt/copy
cat /mnt/copy >$port
reboot -f"#
    );
    alone(TEST, async {
        let Some(spec) = linux(TEST, &script) else { return };
        let mut vm = boot(spec).await;
        let mut control = vm.take_control();
        read_until(&mut control, "ready\n").await;
        // A period that no block size shares.
        let sent: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
        control.write_all(&sent).await.unwrap();
        let mut back = vec![0; LENGTH];
        control.read_exact(&mut back).await.unwrap();
        assert!(back == sent, "what came back is what was sent");
        assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
    });
}

#[test]
fn a_panic_is_told_on_the_console_and_ends_the_machine() {
    const TEST: &str = "a_panic_is_told_on_the_console_and_ends_the_machine";
    alone(TEST, async {
        let Some(spec) = linux(TEST, "exit 3") else { return };
        let mut vm = boot(spec).await;
        let mut said = String::new();
        vm.take_console().read_to_string(&mut said).await.unwrap();
        assert!(said.contains("Attempted to kill init! exitcode=0x00000300"), "{said}");
        let exit = vm.wait().await;
        assert_eq!((exit.code, exit.reason), (Some(0), ExitReason::GuestReset));
    });
}

#[test]
fn a_root_that_has_no_init_is_told_on_the_console() {
    const TEST: &str = "a_root_that_has_no_init_is_told_on_the_console";
    alone(TEST, async {
        let Some(mut spec) = linux(TEST, "") else { return };
        spec.initramfs = crate::support::file(&[0; 512]);
        let mut vm = boot(spec).await;
        let mut said = String::new();
        vm.take_console().read_to_string(&mut said).await.unwrap();
        assert!(said.contains("Kernel panic"), "{said}");
        assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
    });
}
