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

/// The whole line. `tsc_khz` is the pace of the host's time stamp counter, when it can be relied
/// on. QEMU appends one `virtio_mmio.device=` for each device, which the kernel must read as its
/// own: so nothing here is `--`.
pub(super) fn kernel_parameters(tsc_khz: Option<u32>, second_ioapic: bool) -> String {
    let mut line = FIXED.join(" ");
    if second_ioapic {
        line.push_str(SECOND_IOAPIC);
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
        let with = kernel_parameters(Some(2_600_000), true);
        assert!(with.contains("tsc_early_khz=2600000 tsc=reliable lpj=26000000"), "{with}");
        assert!(!kernel_parameters(None, false).contains("tsc"));
        assert!(!kernel_parameters(None, false).contains("lpj"));
    }

    #[test]
    fn nothing_ends_the_kernel_s_own_part_of_the_line() {
        let line = kernel_parameters(Some(2_600_000), true);
        assert!(line.split(' ').all(|word| word != "--" && !word.is_empty()), "{line}");
    }
}
