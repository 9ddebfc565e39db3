//! The kernel's command line under QEMU. This file alone says what is on it; images/kernel has the
//! kernel it is for, and the measurements.

/// Timer interrupts a second of our kernels (`CONFIG_HZ`), which `lpj` counts by.
const KERNEL_HZ: u64 = 100;

/// Always there.
const FIXED: &[&str] = &[
    // Panics and warnings reach the host from the first moment on; the rest stays in the log.
    "console=ttyS0",
    "quiet",
    // A panic resets at once, a reset is a triple fault, and with `-no-reboot` that ends QEMU.
    "panic=-1",
    "reboot=t",
    // A microvm has none.
    "pci=off",
    // QEMU's local APIC timer counts nanoseconds; saying so saves 200 ms of measuring. There is no
    // other timer to check it against.
    "lapic_timer_khz=1000000",
    "no_timer_check",
    // Measured away: rewriting lock prefixes for one processor, freeing (and so translating anew)
    // the pages of the kernel's start, and bounce buffers that virtio has no use for.
    "noreplace-smp",
    "keepinitmem",
    "swiotlb=noforce",
    // No network device but those that are given: the driver would make one of its own at boot.
    "dummy.numdummies=0",
    // The initial file system holds sandbox-init under this name.
    "rdinit=/init",
];

/// Where a microvm has its second I/O APIC (IO_APIC_SECONDARY_ADDRESS of QEMU's ioapic.h). Its
/// firmware's table does not tell of it.
const SECOND_IOAPIC: &str = " ioapic2=0xfec10000";
/// The first of that one's interrupts.
const SECOND_INTERRUPTS: usize = 24;
/// Where a microvm has its virtio transports, and how many bytes each takes (microvm.h).
const TRANSPORT_ADDRESS: usize = 0xfeb0_0000;
const TRANSPORT_BYTES: usize = 512;

/// The whole line. `tsc_khz` is the pace of the host's time stamp counter, when it can be relied
/// on, `transports` those on a second I/O APIC. Without one QEMU appends a `virtio_mmio.device=` for
/// each device, which the kernel must read as its own: so nothing here is `--`.
pub(super) fn kernel_parameters(tsc_khz: Option<u32>, transports: &[usize]) -> String {
    let mut line = FIXED.join(" ");
    if !transports.is_empty() {
        line.push_str(SECOND_IOAPIC);
    }
    for index in transports {
        let address = TRANSPORT_ADDRESS + index * TRANSPORT_BYTES;
        let interrupt = SECOND_INTERRUPTS + index;
        line.push_str(&format!(" virtio_mmio.device={TRANSPORT_BYTES}@{address:#x}:{interrupt}"));
    }
    if let Some(khz) = tsc_khz {
        let loops_per_jiffy = u64::from(khz) * 1_000 / KERNEL_HZ;
        line.push_str(&format!(" tsc_early_khz={khz} tsc=reliable lpj={loops_per_jiffy}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_parameters_stand_there_only_when_the_counter_is_steady() {
        let with = kernel_parameters(Some(2_600_000), &[]);
        assert!(with.contains("tsc_early_khz=2600000 tsc=reliable lpj=26000000"), "{with}");
        assert!(!kernel_parameters(None, &[]).contains("tsc"));
        assert!(!kernel_parameters(None, &[]).contains("lpj"));
    }

    #[test]
    fn nothing_ends_the_kernel_s_own_part_of_the_line() {
        let line = kernel_parameters(Some(2_600_000), &[]);
        assert!(line.split(' ').all(|word| word != "--" && !word.is_empty()), "{line}");
    }

    #[test]
    fn transports_of_the_second_i_o_apic_are_named_in_their_order() {
        let line = kernel_parameters(None, &[23, 22]);
        let named = " ioapic2=0xfec10000 virtio_mmio.device=512@0xfeb02e00:47 \
                     virtio_mmio.device=512@0xfeb02c00:46";
        assert!(line.ends_with(named), "{line}");
        assert!(!kernel_parameters(None, &[]).contains("virtio_mmio"));
    }

    #[test]
    fn the_longest_line_is_one_that_linux_takes() {
        const COMMAND_LINE_SIZE: usize = 2048;
        let transports: Vec<usize> = (0..24).collect();
        assert!(kernel_parameters(Some(20_000_000), &transports).len() < COMMAND_LINE_SIZE);
    }
}
