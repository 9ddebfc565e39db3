//! With Linux in the machine.

use engine::ExitReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::held::held;
use crate::linux_guest::linux;
use crate::support::{alone, boot, disk, file, process_state, read_until};

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
    // Opened once: Linux throws away what has come for a port when the port is closed.
    let script = format!(
        r#"
exec 3<>$port
echo ready >&3
head -c {LENGTH} <&3 >/mnt/copy
cat /mnt/copy >&3
head -c 1 <&3
reboot -f"#
    );
    alone(TEST, async {
        let Some(spec) = linux(TEST, &script) else { return };
        let mut vm = boot(spec).await;
        let mut control = vm.take_control();
        read_until(&mut control, "ready\n").await;
        // A period that no block size shares.
        let sent: Vec<u8> = (0..=250).cycle().take(LENGTH).collect();
        control.write_all(&sent).await.unwrap();
        let mut back = vec![0; LENGTH];
        control.read_exact(&mut back).await.unwrap();
        assert!(back == sent, "what came back is what was sent");
        // A reset loses what the host has not read yet, so the guest waits for this.
        control.write_all(b"!").await.unwrap();
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
        spec.initramfs = file(&[0; 512]);
        let mut vm = boot(spec).await;
        let mut said = String::new();
        vm.take_console().read_to_string(&mut said).await.unwrap();
        assert!(said.contains("Kernel panic"), "{said}");
        assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
    });
}

#[test]
fn disks_come_in_order_with_their_serials_sizes_and_contents() {
    const TEST: &str = "disks_come_in_order_with_their_serials_sizes_and_contents";
    const SCRIPT: &str = r#"
for d in vda vdb vdc vdd; do
  set -- $(dd if=/dev/$d bs=512 skip=777 count=1 2>/dev/null | head -c 20)
  echo "$d $(cat /sys/block/$d/serial) $(cat /sys/block/$d/size) $1 $2 $(md5sum </dev/$d)" >$port
done
echo end >$port
reboot -f"#;
    alone(TEST, async {
        for cpus in [1, 2] {
            let Some(mut spec) = linux(TEST, SCRIPT) else { return };
            spec.cpus = cpus;
            for (index, name) in ["first", "second", "third", "fourth"].iter().enumerate() {
                spec.disks.push(disk(name, 1_000 + u32::try_from(index).unwrap()));
            }
            let mut vm = boot(spec).await;
            let said = read_until(&mut vm.take_control(), "end").await;
            let expected = [
                "vda first 1000 first 777 ",
                "vdb second 1001 second 777 ",
                "vdc third 1002 third 777 ",
                "vdd fourth 1003 fourth 777 ",
            ];
            for (line, expected) in said.lines().zip(expected) {
                assert!(line.starts_with(expected), "{said}");
            }
            assert_eq!(said.lines().count(), 5, "{said}");
            assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
        }
    });
}

#[test]
fn a_machine_with_disks_killed_while_it_reads_leaves_nothing() {
    const TEST: &str = "a_machine_with_disks_killed_while_it_reads_leaves_nothing";
    const SCRIPT: &str = r#"
echo reading >$port
while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null; done"#;
    alone(TEST, async {
        let before = held();
        for kill in [true, false, true, false] {
            let Some(mut spec) = linux(TEST, SCRIPT) else { return };
            spec.disks = vec![disk("one", 20_000), disk("two", 8)];
            let mut vm = boot(spec).await;
            let pid = vm.process_id().unwrap();
            read_until(&mut vm.take_control(), "reading").await;
            if kill {
                vm.kill();
                assert_eq!(vm.wait().await.reason, ExitReason::Killed);
            }
            drop(vm);
            assert_eq!(process_state(pid), None);
            assert_eq!(held(), before);
        }
    });
}
