//! Work on two block devices, in turn, timed in the guest; one line a piece of work: name, device,
//! microseconds.
//!
//! `block-work ROUNDS DEVICE DEVICE`, built by itself and statically, so that any guest runs it. All
//! of it goes past the guest's cache. A device has two parts: of the first nothing is ever written,
//! so that it stays the base's.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Instant;

type Outcome = io::Result<()>;
type Work = fn(&File) -> Outcome;

const WORK: [(&str, Work); 10] = [
    ("read 4 KiB of the base, QD 1", |disk| random(disk, BASE, 1, read)),
    ("read 4 KiB of the base, QD 32", |disk| random(disk, BASE, 32, read)),
    ("write 4 KiB, QD 1, one fsync", |disk| random(disk, WRITTEN, 1, write)),
    ("write 4 KiB, QD 32, one fsync", |disk| random(disk, WRITTEN, 32, write)),
    ("write 4 KiB, an fsync each", write_and_sync),
    ("read 4 KiB written, QD 1", |disk| random(disk, WRITTEN, 1, read)),
    ("read 4 KiB written, QD 32", |disk| random(disk, WRITTEN, 32, read)),
    ("read 1 MiB after 1 MiB of the base", |disk| stream(disk, BASE, read)),
    ("write 1 MiB after 1 MiB, one fsync", |disk| stream(disk, WRITTEN, write)),
    ("read 1 MiB after 1 MiB written", |disk| stream(disk, WRITTEN, read)),
];

/// `O_DIRECT` on x86-64: past the guest's cache.
const DIRECT: i32 = 0o40000;
const BLOCK: usize = 4096;
const MEGABYTE: usize = 1 << 20;
/// Where the two parts begin, and what each has.
const BASE: u64 = 0;
const WRITTEN: u64 = PART;
const PART: u64 = 64 << 20;
const ACCESSES: u64 = 8192;
const SYNCED: u64 = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rounds, devices @ ..] = &arguments[..] else { return Err("usage".into()) };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(DIRECT);
    // The first round fills caches of the host.
    for round in 0..=rounds.parse()? {
        for (name, work) in WORK {
            for device in devices {
                let disk = options.open(Path::new(device))?;
                let begun = Instant::now();
                work(&disk)?;
                if round > 0 {
                    println!("{}: {device} {}", name, begun.elapsed().as_micros());
                }
            }
        }
    }
    Ok(())
}

fn read(disk: &File, bytes: &mut [u8], place: u64) -> Outcome {
    disk.read_exact_at(bytes, place)
}

fn write(disk: &File, bytes: &mut [u8], place: u64) -> Outcome {
    disk.write_all_at(bytes, place)
}

/// Memory that begins at a page, of bytes that do not compress.
fn pages(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    let mut word = 88_172_645_463_325_252u64;
    buffer.resize_with(length + BLOCK, || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word as u8
    });
    let start = buffer.as_ptr().align_offset(BLOCK);
    &mut buffer[start..start + length]
}

/// Places of a part that jump about.
fn place(part: u64, number: u64) -> u64 {
    part + number * 2_654_435_761 % (PART / BLOCK as u64) * BLOCK as u64
}

/// Accesses by as many threads as are under way at once, and a sync.
fn random(
    disk: &File,
    part: u64,
    depth: u64,
    access: fn(&File, &mut [u8], u64) -> Outcome,
) -> Outcome {
    let work = |thread: u64| -> Outcome {
        let mut buffer = Vec::new();
        let block = pages(&mut buffer, BLOCK);
        (thread..ACCESSES)
            .step_by(depth as usize)
            .try_for_each(|number| access(disk, block, place(part, number)))
    };
    if depth == 1 {
        work(0)?;
    } else {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..depth).map(|thread| scope.spawn(move || work(thread))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
        })?;
    }
    disk.sync_data()
}

fn write_and_sync(disk: &File) -> Outcome {
    let mut buffer = Vec::new();
    let block = pages(&mut buffer, BLOCK);
    (0..SYNCED).try_for_each(|number| {
        disk.write_all_at(block, place(WRITTEN, number * 7))?;
        disk.sync_data()
    })
}

fn stream(disk: &File, part: u64, access: fn(&File, &mut [u8], u64) -> Outcome) -> Outcome {
    let mut buffer = Vec::new();
    let piece = pages(&mut buffer, MEGABYTE);
    (part..part + PART).step_by(MEGABYTE).try_for_each(|place| access(disk, piece, place))?;
    disk.sync_data()
}
