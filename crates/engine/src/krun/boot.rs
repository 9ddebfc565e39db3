//! What is in memory, and in the processors' registers, before the first instruction.
//!
//! The kernel is entered in 64-bit mode with the tables that Linux's boot protocol wants
//! (Documentation/x86/boot.rst, "64-bit boot protocol"), and a table of processors and interrupts
//! (Intel's MultiProcessor Specification 1.4).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use krun_arch::x86_64::layout::{CMDLINE_START, KVM_IOAPIC_NUM_PINS, MMIO_MEM_START};
use krun_arch::x86_64::{interrupts, msr, regs};
use krun_arch::{ArchMemoryInfo, InitrdConfig};
use krun_cpuid::{VmSpec as CpuidSpec, filter_cpuid};
use kvm_bindings::CpuId;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::kernel::{self, KernelError};
use crate::error::{SpecError, StartError};
use crate::sys::guest_vm::as_krun;

const PAGE: u64 = 4096;
/// Copied at once.
const PIECE: usize = 1 << 20;

/// What is loaded.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) kernel: &'a File,
    pub(super) initramfs: &'a File,
    pub(super) command_line: &'a str,
    pub(super) cpus: u8,
    pub(super) memory_mib: u32,
}

impl Load<'_> {
    /// Fills the memory. The value is the address of the first instruction.
    pub(super) fn fill(
        &self,
        memory: &GuestMemoryMmap,
        layout: &ArchMemoryInfo,
    ) -> Result<u64, StartError> {
        // Below what devices take, where the boot protocol's 32 bits reach.
        let top = layout.ram_last_addr.min(MMIO_MEM_START);
        let length = self.initramfs.metadata().map_err(unreadable("initramfs"))?.len();
        let begin = top.checked_sub(length).ok_or_else(|| self.too_small("initramfs"))?;
        let begin = begin / PAGE * PAGE;
        let kernel = match kernel::load(self.kernel, memory, begin) {
            Ok(kernel) => kernel,
            Err(KernelError::NoRoom) => return Err(self.too_small("kernel")),
            Err(KernelError::Read(source)) => return Err(unreadable("kernel")(source)),
            Err(error @ (KernelError::NotElf | KernelError::Segments)) => {
                return Err(unusable("kernel", error.to_string()));
            }
        };
        copy(self.initramfs, length, memory, begin).map_err(unreadable("initramfs"))?;
        let initrd = usize::try_from(length)
            .ok()
            .filter(|length| *length > 0)
            .map(|size| InitrdConfig { address: krun_memory::GuestAddress(begin), size });
        self.tables(memory, layout, &initrd)
            .map_err(|source| StartError::Resource { what: "the guest's boot tables", source })?;
        Ok(kernel.entry)
    }

    fn tables(
        &self,
        memory: &GuestMemoryMmap,
        layout: &ArchMemoryInfo,
        initrd: &Option<InitrdConfig>,
    ) -> io::Result<()> {
        let mut line = self.command_line.as_bytes().to_vec();
        line.push(0);
        memory.write_slice(&line, GuestAddress(CMDLINE_START)).map_err(io::Error::other)?;
        as_krun(memory, |memory| {
            krun_arch::x86_64::configure_system(
                memory,
                layout,
                krun_memory::GuestAddress(CMDLINE_START),
                line.len(),
                initrd,
                self.cpus,
                KVM_IOAPIC_NUM_PINS,
            )
        })?
        .map_err(|error| io::Error::other(format!("{error:?}")))
    }

    fn too_small(&self, what: &'static str) -> StartError {
        StartError::Spec(SpecError {
            option: "memory_mib",
            value: self.memory_mib.to_string(),
            reason: format!("the {what} needs more"),
        })
    }
}

/// Sets a processor up to run the kernel from `entry` on; only the first one does, the others wait
/// until they are woken.
pub(super) fn set_up_processor(
    vcpu: &VcpuFd,
    id: u8,
    cpus: u8,
    features: &CpuId,
    memory: &GuestMemoryMmap,
    entry: u64,
) -> Result<(), StartError> {
    let mut features = features.clone();
    let spec = CpuidSpec::new(id, cpus, false).map_err(failed("the CPUID filter"))?;
    filter_cpuid(&mut features, &spec).map_err(failed("the CPUID filter"))?;
    vcpu.set_cpuid2(&features).map_err(StartError::kvm("KVM_SET_CPUID2"))?;
    msr::setup_msrs(vcpu).map_err(failed("KVM_SET_MSRS"))?;
    regs::setup_regs(vcpu, entry, id).map_err(failed("KVM_SET_REGS"))?;
    regs::setup_fpu(vcpu).map_err(failed("KVM_SET_FPU"))?;
    as_krun(memory, |memory| regs::setup_sregs(memory, vcpu, id))
        .map_err(|source| StartError::Resource { what: "the guest's page tables", source })?
        .map_err(failed("KVM_SET_SREGS"))?;
    interrupts::set_lint(vcpu).map_err(failed("KVM_SET_LAPIC"))
}

fn copy(file: &File, length: u64, memory: &GuestMemoryMmap, begin: u64) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    let mut done = 0;
    while done < length {
        let count = usize::try_from(length - done).unwrap_or(PIECE).min(PIECE);
        let piece = &mut bytes[..count];
        file.read_exact_at(piece, done)?;
        memory.write_slice(piece, GuestAddress(begin + done)).map_err(io::Error::other)?;
        done += count as u64;
    }
    Ok(())
}

fn failed<E: std::fmt::Debug>(call: &'static str) -> impl Fn(E) -> StartError {
    move |error| StartError::Kvm { call, problem: format!("{error:?}") }
}

fn unreadable(option: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| unusable(option, format!("it cannot be read: {error}"))
}

fn unusable(option: &'static str, reason: String) -> StartError {
    StartError::Spec(SpecError { option, value: "the file given".to_owned(), reason })
}
