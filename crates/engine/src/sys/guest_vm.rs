//! A KVM machine and its memory, which go together: the memory is mapped for as long as anything
//! of the machine is there.

#![allow(unsafe_code, reason = "gives memory to KVM, and looks at it with another library's types")]

use std::io;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use nix::libc;
use virtio::memory::{Memory, SharedMemory};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{
    GuestAddress, GuestAddressSpace, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};

/// Maps private anonymous memory, which the host gives when it is touched. It is in no core file and in no child.
pub(crate) fn map(regions: &[(u64, usize)]) -> io::Result<SharedMemory> {
    let mut mapped = Vec::with_capacity(regions.len());
    for (address, size) in regions {
        let region = MmapRegion::new(*size).map_err(|error| match error {
            MmapRegionError::Mmap(error) => error,
            other => io::Error::other(other),
        })?;
        for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
            // SAFETY: the mapping that was just made, in its whole length; the advice changes
            // nothing of its contents. Where it is refused, core files and forks are larger.
            unsafe { libc::madvise(region.as_ptr().cast(), region.size(), advice) };
        }
        let region = GuestRegionMmap::new(region, GuestAddress(*address))
            .ok_or_else(|| io::Error::other("a region beyond all addresses"))?;
        mapped.push(region);
    }
    GuestMemoryMmap::from_regions(mapped).map(SharedMemory::new).map_err(io::Error::other)
}

/// Lets `look` see the memory as libkrun's functions want it. It must not keep what it is given.
pub(crate) fn as_krun<T>(
    memory: &GuestMemoryMmap,
    look: impl FnOnce(&krun_memory::GuestMemoryMmap) -> T,
) -> io::Result<T> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let mut regions = Vec::with_capacity(memory.num_regions());
    for region in memory.iter() {
        let (pointer, size) = (region.as_ptr(), region.size());
        // SAFETY: the mapping of this region, which is there as long as `memory` is borrowed; the
        // callers are in this crate, and keep nothing. Both libraries touch guest memory by
        // volatile accesses through raw pointers only.
        let raw = unsafe { krun_memory::MmapRegion::build_raw(pointer, size, access, kind) };
        let raw = raw.map_err(io::Error::other)?;
        let address = krun_memory::GuestAddress(region.start_addr().0);
        regions.push(
            krun_memory::GuestRegionMmap::new(raw, address)
                .ok_or_else(|| io::Error::other("a region beyond all addresses"))?,
        );
    }
    let view = krun_memory::GuestMemoryMmap::from_regions(regions).map_err(io::Error::other)?;
    Ok(look(&view))
}

/// A machine and its memory.
#[derive(Debug)]
pub(crate) struct GuestVm {
    // Freed in this order.
    vm: VmFd,
    _memory: Memory,
}

impl GuestVm {
    /// Gives the machine its memory.
    pub(crate) fn new(vm: VmFd, memory: &SharedMemory) -> Result<Arc<Self>, kvm_ioctls::Error> {
        let memory = memory.memory();
        for (slot, region) in (0..).zip(memory.iter()) {
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the region is as large as it says, and mapped for longer than the machine
            // lives: `Self` holds both, and every processor of the machine holds `Self`.
            unsafe { vm.set_user_memory_region(region) }?;
        }
        Ok(Arc::new(Self { vm, _memory: memory }))
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.vm
    }
}
