//! The kernel's command line under krun: what every engine's has, and the devices. Nothing else puts
//! anything on it.

use super::board::Place;
use crate::kernel_parameters::common;

/// There is a controller only so that a kernel which resets by it can. Looking for a keyboard takes
/// time.
const NO_KEYBOARD: &str = " i8042.noaux i8042.nokbd";

/// The whole line. `tsc_khz` is the pace of the host's time stamp counter, which is the guest's,
/// when it can be relied on.
pub(super) fn kernel_parameters(tsc_khz: Option<u32>, devices: &[Place]) -> String {
    let mut line = common(tsc_khz);
    line.push_str(NO_KEYBOARD);
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
