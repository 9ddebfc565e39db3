//! Disks as a real guest sees them: QEMU as the front end, Linux as the driver.
//!
//! Skipped by name when QEMU, a kernel of ours or a static busybox are not there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests, helpers included")]

mod images;
mod machine;
mod writing;

use std::fs::File;
use std::sync::Arc;

use blockcow::{Disk, ImageFormat};
use images::{Content, convert};
use machine::Machine;
use virtio::{BlockOptions, DeviceServer};

fn served(machine: &mut Machine, path: &std::path::Path, format: ImageFormat) -> DeviceServer {
    let disk = Disk::open(File::open(path).unwrap(), format).unwrap();
    let options = BlockOptions { serial: "disk-0".to_owned(), queues: 2 };
    virtio::serve_block(machine.add_disk(2), Arc::new(disk), options).unwrap()
}

/// Boots with one disk, runs the script, and gives back what it printed.
fn run(test: &str, path: &std::path::Path, format: ImageFormat, script: &str) -> Option<String> {
    let _turn = machine::turn();
    let mut machine = Machine::new(test)?;
    let server = served(&mut machine, path, format);
    let output = machine.run(script);
    assert!(server.failure().is_none(), "{:?}", server.failure());
    server.stop().unwrap();
    Some(output)
}

#[test]
fn a_guest_reads_every_byte_of_a_compressed_image() {
    let content = Content::new(96 << 20);
    let image = convert(&content, "qcow2", &["-c"]);
    let test = "a_guest_reads_every_byte_of_a_compressed_image";
    let script = "sha256sum /dev/vda; cat /sys/block/vda/size /sys/block/vda/serial; echo";
    let Some(output) = run(test, image.path(), ImageFormat::Qcow2, script) else { return };
    assert!(output.contains(&content.sha256()), "{output}");
    assert!(output.contains(&format!("\n{}\n", (96 << 20) / 512)), "{output}");
    assert!(output.contains("\ndisk-0\n"), "{output}");
}

#[test]
fn a_guest_reads_every_byte_of_other_layouts() {
    let test = "a_guest_reads_every_byte_of_other_layouts";
    let content = Content::new(24 << 20);
    for options in [
        &["-o", "cluster_size=512"][..],
        &["-c", "-o", "cluster_size=32k"],
        &["-c", "-o", "cluster_size=2M,compat=0.10"],
    ] {
        let image = convert(&content, "qcow2", options);
        let script = "sha256sum /dev/vda";
        let Some(output) = run(test, image.path(), ImageFormat::Qcow2, script) else { return };
        assert!(output.contains(&content.sha256()), "{options:?}: {output}");
    }
    let Some(output) = run(test, content.path(), ImageFormat::Raw, "sha256sum /dev/vda") else {
        return;
    };
    assert!(output.contains(&content.sha256()), "{output}");
}

#[test]
fn many_readers_at_once_past_the_guest_s_cache_see_the_same_bytes() {
    let test = "many_readers_at_once_past_the_guest_s_cache_see_the_same_bytes";
    let content = Content::new(24 << 20);
    let image = convert(&content, "qcow2", &["-c"]);
    let script = r#"
for n in 1 2 3 4 5 6 7 8; do
  dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | sha256sum > /tmp-$n &
done
wait
cat /tmp-* | sort | uniq -c"#;
    let Some(output) = run(test, image.path(), ImageFormat::Qcow2, script) else { return };
    assert!(output.contains(&format!("8 {}", content.sha256())), "{output}");
}

#[test]
fn a_guest_cannot_write_and_cannot_read_past_the_end() {
    let test = "a_guest_cannot_write_and_cannot_read_past_the_end";
    let content = Content::new(4 << 20);
    let image = convert(&content, "qcow2", &[]);
    let script = r#"
cat /sys/block/vda/ro
dd if=/dev/zero of=/dev/vda bs=512 count=1 2>&1 && echo written
dd if=/dev/vda bs=512 skip=8192 count=1 2>/dev/null | wc -c
sha256sum /dev/vda"#;
    let Some(output) = run(test, image.path(), ImageFormat::Qcow2, script) else { return };
    assert!(output.starts_with("1\n"), "{output}");
    assert!(!output.contains("written"), "{output}");
    assert!(output.contains("\n0\n"), "{output}");
    assert!(output.contains(&content.sha256()), "{output}");
}

#[test]
fn stopping_the_device_first_leaves_no_thread() {
    let test = "stopping_the_device_first_leaves_no_thread";
    let content = Content::new(4 << 20);
    let _turn = machine::turn();
    let Some(mut machine) = Machine::new(test) else { return };
    let server = served(&mut machine, content.path(), ImageFormat::Raw);
    let running = machine.start("echo up; while :; do dd if=/dev/vda of=/dev/null; done");
    running.wait_for("up");
    server.stop().unwrap();
    let names = std::fs::read_dir("/proc/self/task").unwrap().map(|task| {
        // A thread may end while this looks.
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    });
    let own: Vec<String> = names.filter(|name| name.starts_with("virtio-")).collect();
    // Readers that had nothing to do end a little later by themselves, and touch no guest memory.
    assert!(own.iter().all(|name| name.starts_with("virtio-read")), "{own:?}");
}
