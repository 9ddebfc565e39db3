//! Work on two mounts, in turn, timed in the guest; one line a piece of work: name, mount,
//! microseconds.
//!
//! `file-work ROUNDS MOUNT MOUNT`, built by itself and statically, so that any guest runs it. What
//! the guest has cached is a second old at most, and is let grow older before each piece that it
//! matters to.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type Work = fn(&Path) -> Result<(), Box<dyn Error>>;

const WORK: [(&str, Work); 8] = [
    ("stat", stat_all),
    ("list", list_all),
    ("create-unlink", create_and_unlink),
    ("random-read", random_read),
    ("random-write", random_write),
    ("stream-read", stream_read),
    ("stream-write", stream_write),
    ("git-status", git_status),
];

/// `O_DIRECT` on x86-64: past the guest's cache.
const DIRECT: i32 = 0o40000;
const BLOCK: usize = 4096;
const MEGABYTE: usize = 1 << 20;
/// Of the file `data`.
const MEGABYTES: usize = 32;
const RANDOM_ACCESSES: usize = 1000;
const CREATED_FILES: usize = 500;
const EXPIRY: Duration = Duration::from_millis(1100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [rounds, mounts @ ..] = &arguments[..] else { return Err("usage".into()) };
    // The first round fills caches of the host, and git's index.
    for round in 0..=rounds.parse()? {
        for (name, work) in WORK {
            for mount in mounts {
                std::thread::sleep(EXPIRY);
                let begun = Instant::now();
                work(Path::new(mount))?;
                if round > 0 {
                    println!("{name} {mount} {}", begun.elapsed().as_micros());
                }
            }
        }
    }
    Ok(())
}

/// Every file of the tree, by its name.
fn stat_all(mount: &Path) -> Result<(), Box<dyn Error>> {
    for folder in 0..20 {
        for file in 0..100 {
            fs::symlink_metadata(mount.join(format!("tree/d{folder}/f{file}")))?;
        }
    }
    Ok(())
}

/// Every entry of the tree, with what `ls -l` wants to know.
fn list_all(mount: &Path) -> Result<(), Box<dyn Error>> {
    for folder in fs::read_dir(mount.join("tree"))? {
        let path = folder?.path();
        if path.file_name().is_some_and(|name| name != ".git") {
            for entry in fs::read_dir(path)? {
                entry?.metadata()?;
            }
        }
    }
    Ok(())
}

fn create_and_unlink(mount: &Path) -> Result<(), Box<dyn Error>> {
    let name = |index| mount.join(format!("new-{index}"));
    for index in 0..CREATED_FILES {
        fs::write(name(index), "content")?;
    }
    for index in 0..CREATED_FILES {
        fs::remove_file(name(index))?;
    }
    Ok(())
}

fn direct(mount: &Path, write: bool) -> Result<File, Box<dyn Error>> {
    let mut options = OpenOptions::new();
    Ok(options.read(!write).write(write).custom_flags(DIRECT).open(mount.join("data"))?)
}

/// Memory that begins at a page.
fn pages(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    buffer.resize(length + BLOCK, 7);
    let start = buffer.as_ptr().align_offset(BLOCK);
    &mut buffer[start..start + length]
}

/// Places that jump about.
fn places() -> impl Iterator<Item = u64> {
    let blocks = (MEGABYTES * MEGABYTE / BLOCK) as u64;
    (0..RANDOM_ACCESSES as u64).map(move |at| at * 2_654_435_761 % blocks * BLOCK as u64)
}

fn random_read(mount: &Path) -> Result<(), Box<dyn Error>> {
    let (file, mut buffer) = (direct(mount, false)?, Vec::new());
    let block = pages(&mut buffer, BLOCK);
    for place in places() {
        file.read_exact_at(block, place)?;
    }
    Ok(())
}

fn random_write(mount: &Path) -> Result<(), Box<dyn Error>> {
    let (file, mut buffer) = (direct(mount, true)?, Vec::new());
    let block = pages(&mut buffer, BLOCK);
    for place in places() {
        file.write_all_at(block, place)?;
    }
    Ok(())
}

fn stream_read(mount: &Path) -> Result<(), Box<dyn Error>> {
    let (file, mut buffer) = (direct(mount, false)?, Vec::new());
    let piece = pages(&mut buffer, MEGABYTE);
    for at in 0..MEGABYTES {
        file.read_exact_at(piece, (at * MEGABYTE) as u64)?;
    }
    Ok(())
}

fn stream_write(mount: &Path) -> Result<(), Box<dyn Error>> {
    let (file, mut buffer) = (direct(mount, true)?, Vec::new());
    let piece = pages(&mut buffer, MEGABYTE);
    for at in 0..MEGABYTES {
        file.write_all_at(piece, (at * MEGABYTE) as u64)?;
    }
    Ok(())
}

fn git_status(mount: &Path) -> Result<(), Box<dyn Error>> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "status", "--porcelain"]).current_dir(mount.join("tree"));
    let output = git.env("HOME", "/tmp").stderr(Stdio::inherit()).output()?;
    if !output.status.success() || !output.stdout.is_empty() {
        return Err(format!("git status says {}", String::from_utf8_lossy(&output.stdout)).into());
    }
    Ok(())
}
