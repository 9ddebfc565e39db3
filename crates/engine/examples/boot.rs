//! Boots a kernel and shows its console with the milliseconds since the start:
//! `boot ENGINE KERNEL INITRAMFS [CPUS [MEMORY_MIB]]`. What the guest writes to its control port is shown
//! with a `>` before it.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use engine::probe::EngineKind;
use engine::{VmSpec, start};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

fn main() -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, kernel, initramfs, rest @ ..] = arguments.as_slice() else {
        return Err("usage: boot krun|qemu KERNEL INITRAMFS [CPUS [MEMORY_MIB]]".into());
    };
    let engine = match engine.as_str() {
        "krun" => EngineKind::Krun,
        "qemu" => EngineKind::Qemu,
        other => return Err(format!("there is no engine {other}").into()),
    };
    let number = |index: usize, default| rest.get(index).map_or(Ok(default), |text| text.parse());
    let spec = VmSpec {
        cpus: number(0, 1)?,
        memory_mib: number(1, 512)?,
        kernel: File::open(kernel)?,
        initramfs: File::open(initramfs)?,
        control_port: "lanebox.control".to_owned(),
        disks: Vec::new(),
        filesystems: Vec::new(),
        network: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut vm = start(engine, spec).await?;
        println!("{:6} {}", begun.elapsed().as_millis(), vm.detail());
        let console = show(vm.take_console(), "", begun);
        let control = show(vm.take_control(), "> ", begun);
        let (exit, (), ()) = tokio::join!(vm.wait(), console, control);
        println!("{:6} {exit:?}", begun.elapsed().as_millis());
        Ok(())
    })
}

async fn show(stream: UnixStream, mark: &str, begun: Instant) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        println!("{:6} {mark}{}", begun.elapsed().as_millis(), line.trim_end().escape_default());
    }
}
