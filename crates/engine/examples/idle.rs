//! What an idle machine costs: `idle [krun|qemu] [MEMORY_MIB [BOOTS]]`. Shows how long it takes from
//! the call of `start` until the guest runs, until the payload guest answers, and what of memory
//! this process and the engine's use more with the machine than without.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::time::{Duration, Instant};

use engine::probe::EngineKind;
use engine::{Usage, VmSpec, start};
use payload_guest::{Guest, KERNEL};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kind = match arguments.first().map_or("krun", String::as_str) {
        "krun" => EngineKind::Krun,
        "qemu" => EngineKind::Qemu,
        other => return Err(format!("there is no engine {other}").into()),
    };
    let number =
        |index: usize, default| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let (memory_mib, boots) = (number(1, 256)?, number(2, 10)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for _ in 0..boots {
            show(kind, memory_mib).await?;
        }
        Ok(())
    })
}

async fn show(kind: EngineKind, memory_mib: u32) -> Result<(), Box<dyn Error>> {
    let spec = VmSpec {
        cpus: 1,
        memory_mib,
        kernel: file(KERNEL)?,
        initramfs: file(&[0; 512])?,
        control_port: "idle.control".to_owned(),
        disks: Vec::new(),
        filesystems: Vec::new(),
        network: None,
    };
    let before = Usage::of(std::process::id()).resident_bytes;
    let begun = Instant::now();
    let mut vm = start(kind, spec).await?;
    let started = begun.elapsed();
    let mut guest = Guest::new(vm.take_control());
    guest.devices().await?;
    let answered = begun.elapsed();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = Usage::of(std::process::id()).and(vm.usage()).resident_bytes;
    println!(
        "runs after {:.1} ms, answers after {:.1} ms, {} KiB more",
        started.as_secs_f64() * 1e3,
        answered.as_secs_f64() * 1e3,
        after.saturating_sub(before) / 1024
    );
    Ok(())
}

fn file(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
