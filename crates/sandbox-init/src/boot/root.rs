//! The steps `check-root` and `mount-root`: the root disk, grown to its size and held to what it can
//! take.
//!
//! A writable root that was not shut down cleanly is checked first (see `check`). When an error is
//! found in it while it is used, it becomes read-only, and is checked at the next boot.
//!
//! virtio-blk has no status for a disk that is full, and ext4 gives up when its journal cannot be
//! written. So a disk that can take less than its size is never let run full: so many blocks are
//! held back ("reserved_clusters" in Documentation/ABI/testing/sysfs-fs-ext4, which holds for root
//! too) that the filesystem is full first. What the disk takes beside the files' own new blocks is
//! allowed for: see [`spare`].

use std::fs::{self, File};
use std::os::unix::fs::FileTypeExt;
use std::time::Instant;

use nix::mount::MsFlags;

use super::ext4::Superblock;
use super::files;
use super::mounts;
use super::settings::Root;
use super::step::{Failure, While};
use crate::limits::{DEVICE_DEADLINE, LOOK_AGAIN};
use crate::sys::ioctl::resize_ext4;

/// Where the root is until it is entered.
pub(super) const NEW_ROOT: &str = "/newroot";

const EXT4: &str = "ext4";

/// Waits for the root's device, and has it checked when it will be written and was not unmounted.
/// A warning if it had to be repaired.
pub(super) async fn check(root: &Root) -> Result<Option<String>, Failure> {
    wait_for(&root.device).await?;
    if root.read_only || root.kind != EXT4 {
        return Ok(None);
    }
    fits(&root.device, &Superblock::read(&root.device)?)?;
    super::check::run(root)
}

/// Mounts the root.
pub(super) fn mount(root: &Root) -> Result<(), Failure> {
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
    let superblock = Superblock::read(device)?;
    grow(device, &superblock)?;
    match root.capacity_blocks {
        Some(capacity) => hold_back(device, &superblock, capacity),
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

/// Refuses a filesystem that was grown to a larger disk: the kernel does, too, and says less.
fn fits(device: &str, superblock: &Superblock) -> Result<(), Failure> {
    if superblock.blocks <= superblock.disk_blocks {
        return Ok(());
    }
    let mib = |blocks: u64| (blocks.saturating_mul(superblock.block_bytes)).div_ceil(1 << 20);
    let (has, disk) = (mib(superblock.blocks), mib(superblock.disk_blocks));
    Err(Failure::new(format!(
        "The filesystem on {device} has {has} MiB and the disk {disk} MiB: it was grown before, so \
         sizeMiB must be given again, at least {has}"
    )))
}

/// Grows the filesystem to its disk, when that is larger.
fn grow(device: &str, superblock: &Superblock) -> Result<(), Failure> {
    if superblock.disk_blocks <= superblock.blocks {
        return Ok(());
    }
    let root = File::open(NEW_ROOT).during(|| format!("Opening {NEW_ROOT}"))?;
    resize_ext4(&root, superblock.disk_blocks)
        .during(|| format!("Growing {device} to {} blocks", superblock.disk_blocks))
}

/// Lets files take no more than the disk does. A block smaller than 4 KiB may take 4 KiB of it.
fn hold_back(device: &str, superblock: &Superblock, capacity: u64) -> Result<(), Failure> {
    let found = nix::sys::statvfs::statvfs(NEW_ROOT).during(|| format!("Measuring {NEW_ROOT}"))?;
    let allowed = capacity.saturating_sub(spare(superblock, capacity));
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
fn spare(superblock: &Superblock, capacity: u64) -> u64 {
    let groups =
        superblock.disk_blocks.max(superblock.blocks).div_ceil(superblock.blocks_per_group);
    superblock.journal_blocks + 2 * groups + groups.div_ceil(64) + 1 + capacity / 16
}

#[cfg(test)]
mod tests {
    use super::super::ext4::tests::parsed;
    use super::*;

    #[test]
    fn journal_bitmaps_and_a_sixteenth_are_spared() {
        assert_eq!(spare(&parsed(), 16_000), 1024 + 4 + 1 + 1 + 1000);
    }

    #[test]
    fn a_filesystem_that_is_larger_than_its_disk_is_told_its_size() {
        let large = Superblock { blocks: 100_000, ..parsed() };
        let failure = fits("/dev/vda", &large).unwrap_err().to_string();
        assert!(failure.contains("391 MiB") && failure.contains("256 MiB"), "{failure}");
        assert!(fits("/dev/vda", &parsed()).is_ok());
    }
}
