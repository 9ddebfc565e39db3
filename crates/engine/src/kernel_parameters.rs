//! What is on the kernel's command line under every engine. images/kernel has the kernel that it is
//! for, and the measurements.

/// Timer interrupts a second of our kernels (`CONFIG_HZ`), which `lpj` counts by.
const KERNEL_HZ: u64 = 100;

/// Always there.
const FIXED: &[&str] = &[
    // The serial port, which works from the first moment on: panics and warnings before there are
    // virtio devices reach the host too. The rest stays in the log.
    "console=ttyS0",
    "quiet",
    // A panic resets at once, and a reset is a triple fault, which ends the machine.
    "panic=-1",
    "reboot=t",
    // There is none.
    "pci=off",
    // The local APIC timer of both engines counts nanoseconds; saying so saves 200 ms of measuring.
    // There is no other timer to check it against.
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

/// The beginning of the line. `tsc_khz` is the pace of the host's time stamp counter, when it can be
/// relied on. QEMU appends to the line, so nothing on it is `--`, after which the kernel reads no more.
pub(crate) fn common(tsc_khz: Option<u32>) -> String {
    let mut line = FIXED.join(" ");
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
        let with = common(Some(2_600_000));
        assert!(with.contains("tsc_early_khz=2600000 tsc=reliable lpj=26000000"), "{with}");
        assert!(!common(None).contains("tsc"));
        assert!(!common(None).contains("lpj"));
    }

    #[test]
    fn nothing_ends_the_kernel_s_own_part_of_the_line() {
        let line = common(Some(2_600_000));
        assert!(line.split(' ').all(|word| word != "--" && !word.is_empty()), "{line}");
    }
}
