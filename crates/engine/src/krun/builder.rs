//! From a specification to a machine whose processors are about to run.

use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::JoinHandle;

use confine::Role;
use krun_arch::ArchMemoryInfo;
use krun_arch::x86_64::layout::KVM_TSS_ADDRESS;
use krun_devices::legacy::{IrqChip, IrqChipDevice, KvmIoapic};
use krun_devices::{Bus, BusError};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use vm_memory::GuestAddressSpace;

use super::board::{self, Named, Parts, Place, TRANSPORT_BYTES};
use super::boot::{self, Load};
use super::console::Console;
use super::control::Control;
use super::kernel_parameters::kernel_parameters;
use super::ports;
use super::processor::Processor;
use super::transport::{NOTIFY, Transport};
use crate::error::{SpecError, StartError};
use crate::spec::VmSpec;
use crate::sys::guest_vm::{self, GuestVm};
use crate::sys::kvm;
use crate::threads;

const DEVICE: &str = "/dev/kvm";
const VERSION: i32 = 12;
const NEEDED: [(Cap, &str); 5] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
];

/// What a machine is made from.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) spec: VmSpec,
    pub(super) control_port: UnixStream,
    pub(super) console: UnixStream,
    pub(super) tsc_khz: Option<u32>,
    pub(super) control: Arc<Control>,
}

/// A machine that runs. Processors are to be joined before the others are dropped.
pub(super) struct Running {
    pub(super) processors: Vec<JoinHandle<()>>,
    /// So that its devices end with this value, not on a processor's thread.
    pub(super) _buses: [Bus; 2],
    pub(super) devices: Vec<Device>,
}

/// A device that is watched.
pub(super) struct Device {
    pub(super) name: String,
    transport: Arc<Mutex<Transport>>,
}

impl Device {
    /// Whether it has ended by itself, as far as can be seen without waiting.
    pub(super) fn has_ended(&self) -> bool {
        match self.transport.try_lock() {
            Ok(transport) => transport.has_ended(),
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Poisoned(_)) => true,
        }
    }
}

/// Makes a machine and starts its processors.
pub(super) fn build(order: Order) -> Result<Running, StartError> {
    let Order { spec, control_port, console, tsc_khz, control } = order;
    let kvm = open()?;
    let cpus = number_of_processors(&kvm, spec.cpus)?;
    let features = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(StartError::kvm("KVM_GET_SUPPORTED_CPUID"))?;
    let (layout, regions) = layout(spec.memory_mib, &features)?;
    let memory = guest_vm::map(&regions)
        .map_err(|source| StartError::Resource { what: "the guest's memory", source })?;
    let vm = kvm.create_vm().map_err(StartError::kvm("KVM_CREATE_VM"))?;
    let tss = usize::try_from(KVM_TSS_ADDRESS).unwrap_or_default();
    vm.set_tss_address(tss).map_err(StartError::kvm("KVM_SET_TSS_ADDR"))?;
    let vm = GuestVm::new(vm, &memory).map_err(StartError::kvm("KVM_SET_USER_MEMORY_REGION"))?;
    let chip = KvmIoapic::new(vm.fd()).map_err(StartError::kvm("KVM_CREATE_IRQCHIP"))?;
    let interrupts: IrqChip = Arc::new(Mutex::new(IrqChipDevice::new(Box::new(chip))));
    let console = Console::new(console, Arc::clone(&control))
        .map_err(|source| StartError::Resource { what: "the console", source })?;
    let ports = ports::ports(vm.fd(), &interrupts, &layout, console)?;

    let parts = Parts {
        cpus: spec.cpus,
        control_port: (spec.control_port, control_port),
        network: spec.network,
        disks: spec.disks,
        filesystems: spec.filesystems,
    };
    let places: Vec<Place> = (0..parts.count()).map(board::place).collect();
    let (transports, devices) = attach(vm.fd(), parts.devices(&memory)?, &places)?;

    let memory = memory.memory();
    let load = Load {
        kernel: &spec.kernel,
        initramfs: &spec.initramfs,
        command_line: &kernel_parameters(tsc_khz, &places),
        cpus,
        memory_mib: spec.memory_mib,
    };
    let entry = load.fill(&memory, &layout)?;
    let mut made = Vec::new();
    for id in 0..cpus {
        let vcpu = vm.fd().create_vcpu(id.into()).map_err(StartError::kvm("KVM_CREATE_VCPU"))?;
        boot::set_up_processor(&vcpu, id, cpus, &features, &memory, entry)?;
        let (ports, transports) = (ports.clone(), transports.clone());
        made.push(Processor { vcpu, _vm: Arc::clone(&vm), ports, transports });
    }
    Ok(Running { processors: start(made, &control)?, _buses: [ports, transports], devices })
}

/// Starts the threads of all processors. When one cannot be, the others end.
fn start(
    processors: Vec<Processor>,
    control: &Arc<Control>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (id, processor) in processors.into_iter().enumerate() {
        let its_control = Arc::clone(control);
        let run = move || processor.run(&its_control);
        match threads::spawn(Role::Processor, format!("engine-cpu-{id}"), run) {
            Ok(thread) => {
                control.enter(thread.as_pthread_t());
                threads.push(thread);
            }
            Err(source) => {
                control.end(super::control::End::Killed);
                control.all_left(threads.len(), || {});
                threads.into_iter().for_each(|thread| drop(thread.join()));
                return Err(StartError::Resource { what: "a processor's thread", source });
            }
        }
    }
    Ok(threads)
}

fn open() -> Result<Kvm, StartError> {
    let unusable = |detail: String| StartError::EngineUnusable {
        detail,
        remedy: "See what probing this host says of its hardware virtualization.".to_owned(),
    };
    let kvm = kvm::open(Path::new(DEVICE))
        .map_err(|errno| unusable(format!("{DEVICE} cannot be opened: {errno}")))?;
    let version = kvm.get_api_version();
    if version != VERSION {
        return Err(unusable(format!("{DEVICE} has version {version}, not {VERSION}")));
    }
    match NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(unusable(format!("{DEVICE} has no {name}"))),
        None => Ok(kvm),
    }
}

fn number_of_processors(kvm: &Kvm, cpus: u32) -> Result<u8, StartError> {
    let most = kvm.get_max_vcpus();
    match u8::try_from(cpus) {
        Ok(number) if usize::from(number) <= most => Ok(number),
        _ => Err(StartError::Spec(SpecError {
            option: "cpus",
            value: cpus.to_string(),
            reason: format!("this host's KVM gives a machine {most} at most"),
        })),
    }
}

/// Where memory is, as far as the processor's addresses reach.
fn layout(
    memory_mib: u32,
    features: &CpuId,
) -> Result<(ArchMemoryInfo, Vec<(u64, usize)>), StartError> {
    const ADDRESS_SIZES: u32 = 0x8000_0008;
    const LEAST_BITS: u32 = 36;
    let leaf = features.as_slice().iter().find(|leaf| leaf.function == ADDRESS_SIZES);
    let bits = leaf.map_or(LEAST_BITS, |leaf| leaf.eax & 0xff).clamp(LEAST_BITS, 52);
    let too_much = |reason: String| {
        StartError::Spec(SpecError { option: "memory_mib", value: memory_mib.to_string(), reason })
    };
    let size = usize::try_from(u64::from(memory_mib) << 20)
        .map_err(|_| too_much("this host has no such addresses".to_owned()))?;
    let (layout, regions) = krun_arch::arch_memory_regions(size, None, 0, 0, None);
    if layout.ram_last_addr > 1 << bits {
        return Err(too_much(format!("this host's processor has addresses of {bits} bits")));
    }
    Ok((layout, regions.into_iter().map(|(address, size)| (address.0, size)).collect()))
}

/// Puts each device behind a transport at its place.
fn attach(
    vm: &VmFd,
    devices: Vec<Named>,
    places: &[Place],
) -> Result<(Bus, Vec<Device>), StartError> {
    let resource = |source| StartError::Resource { what: "a device's registers", source };
    let mut bus = Bus::new();
    let mut watched = Vec::new();
    for (Named { name, device }, place) in devices.into_iter().zip(places) {
        let transport = Transport::new(device).map_err(resource)?;
        register(vm, &transport, *place)?;
        let transport = Arc::new(Mutex::new(transport));
        watched.push(Device { name, transport: Arc::clone(&transport) });
        bus.insert(transport, place.address, TRANSPORT_BYTES)
            .map_err(|BusError::Overlap| resource(std::io::ErrorKind::AddrInUse.into()))?;
    }
    Ok((bus, watched))
}

fn register(vm: &VmFd, transport: &Transport, place: Place) -> Result<(), StartError> {
    let notify = IoEventAddress::Mmio(place.address + NOTIFY);
    for (index, event) in (0u32..).zip(transport.kicks()) {
        vm.register_ioevent(event, &notify, index).map_err(StartError::kvm("KVM_IOEVENTFD"))?;
    }
    vm.register_irqfd(transport.interrupt(), place.pin).map_err(StartError::kvm("KVM_IRQFD"))
}
