//! What is measured of one engine.

use std::error::Error;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::net::UnixStream as Socket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockcow::{Disk, ImageFormat, MemoryStore, OverlayOptions, StoreContext};
use engine::probe::EngineKind;
use engine::{DiskSpec, NetworkSpec, Vm, VmSpec};
use payload_guest::{Chain, Guest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

type Outcome<T> = Result<T, Box<dyn Error>>;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const DISK_BYTES: u64 = 256 << 20;
const BLOCK: u32 = 2;
const NETWORK: u32 = 1;
const BOOTS: usize = 7;

/// Names, numbers and units, in the order of the rows.
pub(crate) struct Figures(pub(crate) Vec<(String, f64, &'static str)>);

/// All of it; takes some seconds.
pub(crate) async fn measure(kind: EngineKind) -> Outcome<Figures> {
    let mut figures = Figures(Vec::new());
    let mut boots = Vec::new();
    for _ in 0..BOOTS {
        boots.push(boot(kind).await?.as_secs_f64() * 1000.0);
    }
    boots.sort_by(f64::total_cmp);
    figures.0.push(("start to first console byte".into(), boots[BOOTS / 2], "ms"));
    blocks(kind, &mut figures).await?;
    frames(kind, &mut figures).await?;
    Ok(figures)
}

async fn boot(kind: EngineKind) -> Outcome<Duration> {
    let spec = spec()?;
    let begun = Instant::now();
    let mut vm = engine::start(kind, spec).await?;
    vm.take_console().read_u8().await?;
    Ok(begun.elapsed())
}

fn spec() -> io::Result<VmSpec> {
    Ok(VmSpec {
        cpus: 1,
        memory_mib: 64,
        kernel: file(payload_guest::KERNEL)?,
        initramfs: file(&[0; 512])?,
        control_port: "bench.control".to_owned(),
        disks: Vec::new(),
        filesystems: Vec::new(),
        network: None,
    })
}

fn file(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

async fn start(kind: EngineKind, spec: VmSpec, device: u32) -> Outcome<(Vm, Guest, usize)> {
    let mut vm = engine::start(kind, spec).await?;
    let mut guest = Guest::new(vm.take_control());
    let found = guest.devices_of(device).await?;
    let number = found.first().ok_or("the guest has no such device")?.number;
    Ok((vm, guest, number))
}

async fn blocks(kind: EngineKind, figures: &mut Figures) -> Outcome<()> {
    let image = tempfile::tempfile()?;
    image.set_len(DISK_BYTES)?;
    let base = Disk::open(image, ImageFormat::Raw)?;
    let store = Arc::new(MemoryStore::new(DISK_BYTES));
    let context = StoreContext { base: "bench".into(), generation: 1 };
    let disk = Arc::new(base.with_store(store, context, OverlayOptions::default()).await?);
    let disks = vec![DiskSpec { serial: "bench".to_owned(), disk }];
    let (_vm, mut guest, device) = start(kind, VmSpec { disks, ..spec()? }, BLOCK).await?;
    for (name, request, bytes, count, depth) in [
        ("read", 0u8, 4 << 10, 4000u32, 1),
        ("read", 0, 4 << 10, 4000, 16),
        ("read", 0, 1 << 20, 200, 4),
        ("write", 1, 4 << 10, 4000, 1),
        ("write", 1, 4 << 10, 4000, 16),
        ("write", 1, 1 << 20, 200, 4),
    ] {
        guest.set_up(device, u64::MAX).await?;
        let mut header = [0; 16];
        header[0] = request;
        let chain = Chain::out(&header);
        let chain = if request == 0 { chain.and_input(bytes) } else { chain.and_pattern(bytes, 1) };
        let step = bytes / 512;
        let seconds =
            run(&mut guest, (device, 0), (count, depth, step), &chain.and_input(1)).await?;
        let rate = f64::from(count) / seconds;
        let size = bytes >> 10;
        if size < 1024 {
            figures.0.push((format!("{name} {size} KiB, {depth} at once"), rate, "/s"));
        } else {
            figures.0.push((format!("{name} {size} KiB, {depth} at once"), rate, "MiB/s"));
        }
    }
    Ok(())
}

/// Seconds that so many chains take; an error when one of them failed.
async fn run(
    guest: &mut Guest,
    (device, queue): (usize, usize),
    (count, depth, step): (u32, u32, usize),
    chain: &Chain,
) -> Outcome<f64> {
    let words = chain.words();
    let begun = Instant::now();
    let outcome =
        guest.numbers(&format!("bench {device} {queue} {count} {depth} {step}{words}")).await?;
    let seconds = begun.elapsed().as_secs_f64();
    match outcome[..] {
        [_, 0, _] => Ok(seconds),
        _ => Err(format!("requests failed: {outcome:?}").into()),
    }
}

async fn frames(kind: EngineKind, figures: &mut Figures) -> Outcome<()> {
    for (bytes, count) in [(60usize, 4000u32), (1514, 4000), (65_534, 1000)] {
        let (ours, frames) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let network = Some(NetworkSpec { frames, mac: MAC, mtu: VmSpec::MAX_MTU });
        let (_vm, mut guest, device) = start(kind, VmSpec { network, ..spec()? }, NETWORK).await?;
        guest.set_up(device, 1 << 32).await?;
        let (read, write) = UnixStream::from_std(ours)?.into_split();
        let drain = tokio::spawn(drain(read, (bytes + 4) * count as usize));
        let chain = Chain::out(&[0; 12]).and_pattern(bytes, 1);
        let begun = Instant::now();
        run(&mut guest, (device, 1), (count, 8, 0), &chain).await?;
        drain.await??;
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        figures.0.push((format!("frames of {bytes} bytes out"), rate, "/s"));

        let flood = tokio::spawn(flood(write, bytes, count));
        let room = Chain::input(12 + bytes);
        let seconds = run(&mut guest, (device, 0), (count, 16, 0), &room).await?;
        // Hanging up with frames on their way would lose them.
        drop(flood.await??);
        figures.0.push((format!("frames of {bytes} bytes in"), f64::from(count) / seconds, "/s"));
    }
    Ok(())
}

async fn drain(mut socket: impl AsyncReadExt + Unpin, mut left: usize) -> io::Result<()> {
    let mut piece = vec![0; 1 << 18];
    while left > 0 {
        match socket.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

async fn flood<S: AsyncWriteExt + Unpin>(mut socket: S, bytes: usize, count: u32) -> io::Result<S> {
    let mut frame = u32::try_from(bytes).unwrap_or(0).to_be_bytes().to_vec();
    frame.extend_from_slice(&MAC);
    frame.resize(4 + bytes, 1);
    for _ in 0..count {
        socket.write_all(&frame).await?;
    }
    Ok(socket)
}
