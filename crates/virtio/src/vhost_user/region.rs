//! The memory table: regions of files that the front end shares, checked before they are mapped.

use std::fs::File;
use std::io;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::error::MemoryError;
use crate::limits::{MAX_MEMORY_BYTES, MAX_MEMORY_REGIONS};

/// Where the front end's own addresses, in which it names rings, lie in the guest's.
#[derive(Debug, Clone, Copy)]
struct Window {
    user: u64,
    guest: u64,
    size: u64,
}

/// Translates the front end's addresses.
#[derive(Debug, Default)]
pub(super) struct Translation(Vec<Window>);

impl Translation {
    pub(super) fn to_guest(&self, user: u64) -> Option<GuestAddress> {
        self.0.iter().find_map(|window| {
            let inside = user.checked_sub(window.user).filter(|offset| *offset < window.size)?;
            // Both ends of the window were checked not to overflow.
            Some(GuestAddress(window.guest + inside))
        })
    }
}

/// Maps the whole table, or nothing.
pub(super) fn map(
    regions: &[VhostUserMemoryRegion],
    files: Vec<File>,
) -> Result<(GuestMemoryMmap, Translation), MemoryError> {
    if regions.len() > MAX_MEMORY_REGIONS {
        return Err(MemoryError::TooManyRegions(regions.len()));
    }
    let mut table: Vec<_> = regions.iter().copied().zip(files).collect();
    table.sort_by_key(|(region, _)| region.guest_phys_addr);
    let mut total = 0u64;
    let mut end_of_last = 0;
    for (region, file) in &table {
        let address = region.guest_phys_addr;
        let end = check(region, file)?;
        if address < end_of_last {
            return Err(MemoryError::Overlap(address));
        }
        end_of_last = end;
        total = total.saturating_add(region.memory_size);
    }
    if total > MAX_MEMORY_BYTES {
        return Err(MemoryError::TooLarge);
    }
    let mut mapped = Vec::with_capacity(table.len());
    let mut windows = Vec::with_capacity(table.len());
    for (region, file) in table {
        let (guest, size) = (region.guest_phys_addr, region.memory_size);
        let length = usize::try_from(size).map_err(|_| MemoryError::TooLarge)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, region.mmap_offset), length)
            .map_err(|error| MemoryError::Map(io::Error::other(error)))?;
        let mapping = GuestRegionMmap::new(mapping, GuestAddress(guest))
            .ok_or(MemoryError::Region { address: guest, size })?;
        mapped.push(mapping);
        windows.push(Window { user: region.user_addr, guest, size });
    }
    let memory = GuestMemoryMmap::from_regions(mapped)
        .map_err(|error| MemoryError::Map(io::Error::other(error)))?;
    Ok((memory, Translation(windows)))
}

/// Checks one region; the value is its end in the guest.
fn check(region: &VhostUserMemoryRegion, file: &File) -> Result<u64, MemoryError> {
    let (address, size) = (region.guest_phys_addr, region.memory_size);
    let impossible = MemoryError::Region { address, size };
    let ends = [address, region.user_addr, region.mmap_offset].map(|start| start.checked_add(size));
    let [Some(end), Some(_), Some(needed)] = ends else { return Err(impossible) };
    if size == 0 {
        return Err(impossible);
    }
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|_| MemoryError::NotSealed)?;
    if !SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK) {
        return Err(MemoryError::NotSealed);
    }
    let length = file.metadata().map_err(MemoryError::Map)?.len();
    if needed > length {
        return Err(MemoryError::FileTooShort { needed, length });
    }
    Ok(end)
}
