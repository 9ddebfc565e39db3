//! The kernel's command line under QEMU: what every engine's has, and the devices that QEMU's
//! firmware does not tell of.

use crate::kernel_parameters::common;

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
/// each device.
pub(super) fn kernel_parameters(tsc_khz: Option<u32>, transports: &[usize]) -> String {
    let mut line = common(tsc_khz);
    if !transports.is_empty() {
        line.push_str(SECOND_IOAPIC);
    }
    for index in transports {
        let address = TRANSPORT_ADDRESS + index * TRANSPORT_BYTES;
        let interrupt = SECOND_INTERRUPTS + index;
        line.push_str(&format!(" virtio_mmio.device={TRANSPORT_BYTES}@{address:#x}:{interrupt}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

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
