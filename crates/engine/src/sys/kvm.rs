//! The smallest machine that can tell how fast guest kernel code runs: one page of 64-bit code in
//! ring 0 that counts down between two writes to a port.
//!
//! Read: Documentation/virt/kvm/api.rst of Linux; AMD64 manual volume 2, 5.3 (page tables).

#![allow(unsafe_code, reason = "maps memory, gives it to KVM, and sets the signal mask of a vCPU")]

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

const PAGE: usize = 4096;
/// Guest-physical: page tables at 0x1000 to 0x3fff, code at 0x4000.
const MEMORY_SIZE: usize = 5 * PAGE;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PAGE_DIRECTORY: u64 = 0x3000;
const CODE: u64 = 0x4000;
/// Written to at the beginning and at the end of a round.
const MARK: u8 = 0xe9;
/// Where Intel processors want three pages that the guest does not use.
const TSS_ADDRESS: usize = 0xfffb_d000;
/// `_IOW(KVMIO, 0x8b, struct kvm_signal_mask)`, the structure counted without its open end.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// Instructions of one count: `dec` and `jnz`.
pub(crate) const INSTRUCTIONS_A_COUNT: u32 = 2;
/// The one signal that interrupts a round. It must be blocked in the thread that runs rounds.
pub(crate) const INTERRUPT: Signal = Signal::SIGUSR1;

/// What KVM could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A call failed.
    Call(&'static str, Errno),
    /// It is another version of the interface than Linux has had since 2007.
    Version(i32),
    /// The payload ended otherwise than by a mark.
    Exit(String),
    /// A signal came.
    Interrupted,
}

/// Opens a KVM device.
pub(crate) fn open(device: &Path) -> Result<Kvm, Errno> {
    let path = CString::new(device.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    Kvm::new_with_path(path).map_err(|error| Errno::from_raw(error.errno()))
}

/// The machine. Fields are freed in this order: nothing runs in the memory when it goes.
pub(crate) struct Machine {
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: Memory,
}

impl Machine {
    /// Makes it, up to its first instruction. It will count down from `count` in each round.
    pub(crate) fn new(kvm: &Kvm, count: u32) -> Result<Self, Failure> {
        let version = kvm.get_api_version();
        if version != 12 {
            return Err(Failure::Version(version));
        }
        let vm = kvm.create_vm().map_err(call("KVM_CREATE_VM"))?;
        // Other processors refuse or ignore it, and running tells.
        let _ = vm.set_tss_address(TSS_ADDRESS);
        let mut memory = Memory::new().map_err(|errno| Failure::Call("mmap", errno))?;
        memory.write(PML4, &(PDPT | 3).to_le_bytes());
        memory.write(PDPT, &(PAGE_DIRECTORY | 3).to_le_bytes());
        memory.write(PAGE_DIRECTORY, &0x83u64.to_le_bytes()); // the first 2 MiB
        memory.write(CODE, &payload(count));
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_SIZE as u64,
            userspace_addr: memory.address.addr().get() as u64,
        };
        // SAFETY: the mapping is as large as the region says, and outlives the VM by the order of
        // the fields.
        unsafe { vm.set_user_memory_region(region) }.map_err(call("KVM_SET_USER_MEMORY_REGION"))?;
        let vcpu = vm.create_vcpu(0).map_err(call("KVM_CREATE_VCPU"))?;
        let features = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(call("KVM_GET_SUPPORTED_CPUID"))?;
        vcpu.set_cpuid2(&features).map_err(call("KVM_SET_CPUID2"))?;
        enter_long_mode(&vcpu)?;
        only_interrupted_by(&vcpu, INTERRUPT)?;
        Ok(Self { vcpu, _vm: vm, _memory: memory })
    }

    /// Runs the payload from one mark to the next, and tells how long the loop between took.
    pub(crate) fn round(&mut self) -> Result<Duration, Failure> {
        self.run_to_mark()?;
        let begun = Instant::now();
        self.run_to_mark()?;
        Ok(begun.elapsed())
    }

    fn run_to_mark(&mut self) -> Result<(), Failure> {
        match self.vcpu.run() {
            Ok(VcpuExit::IoOut(port, _)) if port == u16::from(MARK) => Ok(()),
            Ok(other) => Err(Failure::Exit(format!("{other:?}"))),
            Err(error) if error.errno() == libc::EINTR => Err(Failure::Interrupted),
            Err(error) => Err(call("KVM_RUN")(error)),
        }
    }
}

fn call(name: &'static str) -> impl Fn(kvm_ioctls::Error) -> Failure {
    move |error| Failure::Call(name, Errno::from_raw(error.errno()))
}

/// `again: out MARK; mov ecx, count; down: dec ecx; jnz down; out MARK; jmp again`
fn payload(count: u32) -> Vec<u8> {
    let mut code = vec![0xe6, MARK, 0xb9];
    code.extend_from_slice(&count.to_le_bytes());
    code.extend_from_slice(&[0xff, 0xc9, 0x75, 0xfc, 0xe6, MARK, 0xeb, 0xf1]);
    code
}

fn enter_long_mode(vcpu: &VcpuFd) -> Result<(), Failure> {
    const PROTECTION_AND_PAGING: u64 = 0x8000_0011;
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 0x20;
    const LONG_MODE_ACTIVE: u64 = 0x500;
    let segment = |selector, type_, l| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        s: 1,
        l,
        db: 1 - l,
        g: 1,
        ..kvm_segment::default()
    };
    let mut special = vcpu.get_sregs().map_err(call("KVM_GET_SREGS"))?;
    special.cs = segment(8, 11, 1);
    let data = segment(16, 3, 0);
    (special.ds, special.es, special.ss) = (data, data, data);
    special.cr3 = PML4;
    special.cr4 = PHYSICAL_ADDRESS_EXTENSION;
    special.cr0 = PROTECTION_AND_PAGING;
    special.efer = LONG_MODE_ACTIVE;
    vcpu.set_sregs(&special).map_err(call("KVM_SET_SREGS"))?;
    let mut registers = vcpu.get_regs().map_err(call("KVM_GET_REGS"))?;
    registers.rip = CODE;
    registers.rflags = 2;
    vcpu.set_regs(&registers).map_err(call("KVM_SET_REGS"))
}

/// Has KVM_RUN end with EINTR when `signal` is pending, and for no other signal.
pub(crate) fn only_interrupted_by(vcpu: &VcpuFd, signal: Signal) -> Result<(), Failure> {
    #[repr(C)]
    struct SignalMask {
        length: u32,
        blocked: [u8; 8],
    }
    let all_but_one = !(1u64 << (signal as u32 - 1));
    let mask = SignalMask { length: 8, blocked: all_but_one.to_ne_bytes() };
    // SAFETY: the request reads the length and as many bytes as it says, which are there.
    let result = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK, &raw const mask) };
    Errno::result(result).map(drop).map_err(|errno| Failure::Call("KVM_SET_SIGNAL_MASK", errno))
}

/// Memory of the guest: zeroes at first.
struct Memory {
    address: std::ptr::NonNull<libc::c_void>,
}

impl Memory {
    fn new() -> Result<Self, Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where there was none.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), MEMORY_SIZE, access, kind, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        std::ptr::NonNull::new(address).map(|address| Self { address }).ok_or(Errno::ENOMEM)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        let start = usize::try_from(at).unwrap_or(MEMORY_SIZE);
        assert!(start + bytes.len() <= MEMORY_SIZE, "the layout above fits");
        // SAFETY: inside the mapping, by the line above.
        let target = unsafe { self.address.as_ptr().cast::<u8>().add(start) };
        // SAFETY: as many bytes are writable there, and nothing else knows the mapping yet.
        unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, in its whole length, which nobody uses any more.
        unsafe { libc::munmap(self.address.as_ptr(), MEMORY_SIZE) };
    }
}
