//! The step `mount-root`: the root disk, grown to its size and held to what it can take.
//!
//! A writable root is ext4 with a journal: mounting it replays the journal, so a disk that was not
//! shut down cleanly is consistent afterwards. When an error is found in it while it is used, it
//! becomes read-only.
//!
//! virtio-blk has no status for a disk that is full, and ext4 gives up when its journal cannot be
//! written. So a disk that can take less than its size is never let run full: so many blocks are
//! held back ("reserved_clusters" in Documentation/ABI/testing/sysfs-fs-ext4, which holds for root
//! too) that the filesystem is full first. What the disk takes beside the files' own new blocks is
//! allowed for: see [`spare`].

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::time::Instant;

use nix::mount::MsFlags;

use super::files;
use super::mounts;
use super::settings::Root;
use super::step::{Failure, While};
use crate::limits::{DEVICE_DEADLINE, LOOK_AGAIN};
use crate::sys::ioctl::resize_ext4;

/// Where the root is until it is entered.
pub(super) const NEW_ROOT: &str = "/newroot";

const EXT4: &str = "ext4";
/// Where the superblock lies, its magic number, and the only block size that images have
/// (Documentation/filesystems/ext4/super.rst).
const SUPERBLOCK: (u64, usize) = (1024, 1024);
const MAGIC: u32 = 0xEF53;
const BLOCK_BYTES: u64 = 4096;

/// Waits for the root's device and mounts it.
pub(super) async fn mount(root: &Root) -> Result<(), Failure> {
    wait_for(&root.device).await?;
    mounts::make_directory(NEW_ROOT)?;
    let (device, kind) = (root.device.as_str(), root.kind.as_str());
    let flags = if root.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let what = || format!("Mounting {device} as {kind}");
    if root.read_only || kind != EXT4 {
        return nix::mount::mount(Some(device), NEW_ROOT, Some(kind), flags, None::<&str>)
            .during(what);
    }
    // Beyond the image the disk reads as zeros, so new inode tables need no zeroing.
    let discard = if root.discard { ",discard" } else { "" };
    let options = format!("errors=remount-ro,noinit_itable{discard}");
    nix::mount::mount(Some(device), NEW_ROOT, Some(kind), flags, Some(options.as_str()))
        .during(what)?;
    let measures = Measures::read(device)?;
    grow(device, &measures)?;
    match root.capacity_blocks {
        Some(capacity) => hold_back(device, &measures, capacity),
        None => Ok(()),
    }
}

async fn wait_for(device: &str) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        match fs::metadata(device) {
            Ok(found) if found.file_type().is_block_device() => return Ok(()),
            Ok(_) => return Err(Failure::new(format!("{device} is not a block device"))),
            Err(_) if started.elapsed() < DEVICE_DEADLINE => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => return Err(error).during(|| format!("Waiting for {device}")),
        }
    }
}

/// What matters here of a filesystem's superblock, and the disk that it lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measures {
    /// Blocks of the filesystem.
    blocks: u64,
    /// Blocks of the disk.
    disk_blocks: u64,
    blocks_per_group: u64,
    journal_blocks: u64,
}

impl Measures {
    fn read(device: &str) -> Result<Self, Failure> {
        let what = || format!("Reading {device}");
        let mut disk = File::open(device).during(what)?;
        let length = disk.seek(SeekFrom::End(0)).during(what)?;
        let mut superblock = [0; SUPERBLOCK.1];
        disk.read_exact_at(&mut superblock, SUPERBLOCK.0).during(what)?;
        Self::parse(&superblock, length / BLOCK_BYTES)
            .ok_or_else(|| Failure::new(format!("{device} has no ext4 with blocks of 4 KiB on it")))
    }

    fn parse(superblock: &[u8], disk_blocks: u64) -> Option<Self> {
        let u32_at = |at: usize| {
            let bytes = superblock.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let magic = u32_at(0x38)? & 0xffff;
        let log_block_size = u32_at(0x18)?;
        let is_64bit = u32_at(0x60)? & 0x80 != 0;
        let high = if is_64bit { u32_at(0x150)? } else { 0 };
        let blocks_per_group = u64::from(u32_at(0x20)?);
        if magic != MAGIC || log_block_size != 2 || blocks_per_group == 0 {
            return None;
        }
        Some(Self {
            blocks: u64::from(high) << 32 | u64::from(u32_at(0x4)?),
            disk_blocks,
            blocks_per_group,
            // The copy of the journal inode's size.
            journal_blocks: u64::from(u32_at(0x14c)?) / BLOCK_BYTES,
        })
    }
}

/// Grows the filesystem to its disk, when that is larger.
fn grow(device: &str, measures: &Measures) -> Result<(), Failure> {
    if measures.disk_blocks <= measures.blocks {
        return Ok(());
    }
    let root = File::open(NEW_ROOT).during(|| format!("Opening {NEW_ROOT}"))?;
    resize_ext4(&root, measures.disk_blocks)
        .during(|| format!("Growing {device} to {} blocks of 4 KiB", measures.disk_blocks))
}

/// Lets files take no more than the disk does.
fn hold_back(device: &str, measures: &Measures, capacity: u64) -> Result<(), Failure> {
    let found = nix::sys::statvfs::statvfs(NEW_ROOT).during(|| format!("Measuring {NEW_ROOT}"))?;
    let allowed = capacity.saturating_sub(spare(measures, capacity));
    let held_back = found.blocks_free().saturating_sub(allowed);
    let name = device.trim_start_matches("/dev/");
    let setting = format!("/sys/fs/ext4/{name}/reserved_clusters");
    // ext4 holds something back for itself.
    if held_back > files::number(&setting)? {
        files::set(&setting, &held_back.to_string())?;
    }
    Ok(())
}

/// Blocks that the disk takes beside the new blocks of files: the journal, the two bitmaps of each
/// group with their descriptors and the superblock, and a sixteenth for inodes and the image's own
/// blocks that are overwritten in place.
fn spare(measures: &Measures, capacity: u64) -> u64 {
    let groups = measures.disk_blocks.max(measures.blocks).div_ceil(measures.blocks_per_group);
    measures.journal_blocks + 2 * groups + groups.div_ceil(64) + 1 + capacity / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Vec<u8> {
        let mut bytes = vec![0; SUPERBLOCK.1];
        let mut put =
            |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(0x4, 65_536);
        put(0x18, 2);
        put(0x20, 32_768);
        put(0x38, 0xEF53);
        put(0x14c, 4 << 20);
        bytes
    }

    #[test]
    fn measures_are_those_of_the_superblock() {
        let expected = Measures {
            blocks: 65_536,
            disk_blocks: 100_000,
            blocks_per_group: 32_768,
            journal_blocks: 1024,
        };
        assert_eq!(Measures::parse(&superblock(), 100_000), Some(expected));
    }

    #[test]
    fn what_is_no_ext4_of_ours_has_no_measures() {
        for at in [0x18, 0x20, 0x38] {
            let mut bytes = superblock();
            bytes[at..at + 4].fill(0);
            assert_eq!(Measures::parse(&bytes, 1), None, "{at:#x}");
        }
        assert_eq!(Measures::parse(&[0; 16], 1), None);
    }

    #[test]
    fn journal_bitmaps_and_a_sixteenth_are_spared() {
        let measures = Measures::parse(&superblock(), 65_536).unwrap();
        assert_eq!(spare(&measures, 16_000), 1024 + 4 + 1 + 1 + 1000);
    }
}
