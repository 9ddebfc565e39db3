//! The kernel's command line under krun. This file alone says what is on it; images/kernel has the
//! kernel it is for. What it has in common with QEMU's is explained there.

use super::board::Place;

/// Timer interrupts a second of our kernels (`CONFIG_HZ`), which `lpj` counts by.
const KERNEL_HZ: u64 = 100;

/// Always there.
const FIXED: &[&str] = &[
    // The serial port, which works from the first moment on: a panic before there are virtio
    // devices reaches the host too.
    "console=ttyS0",
    "quiet",
    // A panic resets at once, and a reset is a triple fault, which no device needs to see.
    "panic=-1",
    "reboot=t",
    "pci=off",
    // KVM's local APIC timer counts nanoseconds.
    "lapic_timer_khz=1000000",
    "no_timer_check",
    "noreplace-smp",
    "keepinitmem",
    "swiotlb=noforce",
    "dummy.numdummies=0",
    "rdinit=/init",
    // There is a controller only so that a kernel which resets by it can. Looking for a keyboard
    // takes time.
    "i8042.noaux",
    "i8042.nokbd",
];

/// The whole line. `tsc_khz` is the pace of the host's time stamp counter, which is the guest's,
/// when it can be relied on.
pub(super) fn kernel_parameters(tsc_khz: Option<u32>, devices: &[Place]) -> String {
    let mut line = FIXED.join(" ");
    if let Some(khz) = tsc_khz {
        let loops_per_jiffy = u64::from(khz) * 1_000 / KERNEL_HZ;
        line.push_str(&format!(" tsc_early_khz={khz} tsc=reliable lpj={loops_per_jiffy}"));
    }
    for place in devices {
        line.push_str(&format!(" {place}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::board::{MAX_DEVICES, place};
    use super::*;

    #[test]
    fn devices_are_named_in_their_order() {
        let devices: Vec<Place> = (0..2).map(place).collect();
        let line = kernel_parameters(None, &devices);
        let named = " virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6";
        assert!(line.ends_with(named), "{line}");
        assert!(!line.contains("tsc"), "{line}");
    }

    #[test]
    fn the_longest_line_is_one_that_linux_takes() {
        const COMMAND_LINE_SIZE: usize = 2048;
        let devices: Vec<Place> = (0..MAX_DEVICES).map(place).collect();
        let line = kernel_parameters(Some(20_000_000), &devices);
        assert!(line.len() < COMMAND_LINE_SIZE, "{}", line.len());
        assert!(line.split(' ').all(|word| word != "--" && !word.is_empty()), "{line}");
    }
}
