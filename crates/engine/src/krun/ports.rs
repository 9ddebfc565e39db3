//! What answers at the guest's I/O ports: a serial port, a clock that stands still, and a keyboard
//! controller without a keyboard.

use std::sync::{Arc, Mutex};

use krun_arch::ArchMemoryInfo;
use krun_devices::legacy::{Cmos, I8042Device, IrqChip, Serial};
use krun_devices::{Bus, BusError};
use krun_utils::eventfd::{EFD_NONBLOCK, EventFd};
use kvm_ioctls::VmFd;

use super::console::Console;
use crate::error::StartError;

const SERIAL: u64 = 0x3f8;
const SERIAL_PIN: u32 = 4;
const CLOCK: u64 = 0x70;
const KEYBOARD: u64 = 0x60;

/// What the guest writes to reset the machine: to the keyboard controller, and to the port that
/// chipsets have for it.
pub(super) fn resets(port: u16, byte: u8) -> bool {
    const KEYBOARD_COMMAND: u16 = 0x64;
    const PULSE_RESET: u8 = 0xfe;
    const RESET_CONTROL: u16 = 0xcf9;
    const RESET_CPU: u8 = 1 << 2;
    (port == KEYBOARD_COMMAND && byte == PULSE_RESET)
        || (port == RESET_CONTROL && byte & RESET_CPU != 0)
}

/// All of them.
pub(super) fn ports(
    vm: &VmFd,
    interrupts: &IrqChip,
    memory: &ArchMemoryInfo,
    console: Console,
) -> Result<Bus, StartError> {
    let mut serial = Serial::new_out(event()?, Box::new(console));
    vm.register_irqfd(serial.interrupt_evt(), SERIAL_PIN).map_err(StartError::kvm("KVM_IRQFD"))?;
    serial.set_intc(Arc::clone(interrupts));
    serial.set_irq_line(SERIAL_PIN);
    bus(serial, memory)
}

fn bus(serial: Serial, memory: &ArchMemoryInfo) -> Result<Bus, StartError> {
    let clock = Cmos::new(memory.ram_below_gap, memory.ram_above_gap);
    // A reset is seen before it comes to the controller, and there is no keyboard.
    let keyboard = I8042Device::new(event()?, event()?);
    let mut bus = Bus::new();
    let overlap = |BusError::Overlap| StartError::Resource {
        what: "the ports",
        source: std::io::ErrorKind::AddrInUse.into(),
    };
    bus.insert(Arc::new(Mutex::new(serial)), SERIAL, 8).map_err(overlap)?;
    bus.insert(Arc::new(Mutex::new(clock)), CLOCK, 2).map_err(overlap)?;
    bus.insert(Arc::new(Mutex::new(keyboard)), KEYBOARD, 5).map_err(overlap)?;
    Ok(bus)
}

fn event() -> Result<EventFd, StartError> {
    EventFd::new(EFD_NONBLOCK)
        .map_err(|source| StartError::Resource { what: "an interrupt", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ways_to_reset_are_known_and_nothing_else_is_one() {
        assert!(resets(0x64, 0xfe));
        assert!(resets(0xcf9, 0x06));
        assert!(!resets(0x64, 0xf0));
        assert!(!resets(0xcf9, 0x02));
        assert!(!resets(0x3f8, 0xfe));
    }

    proptest::proptest! {
        #[test]
        fn no_sequence_of_accesses_makes_them_panic(
            accesses in proptest::collection::vec((0u64..0x400, proptest::bool::ANY, 0u8..), 1..400)
        ) {
            let bus = bus(Serial::new_sink(event().unwrap()), &ArchMemoryInfo::default()).unwrap();
            let ports = [SERIAL, CLOCK, KEYBOARD].map(|first| (0..8).map(move |at| first + at));
            let ports: Vec<u64> = ports.into_iter().flatten().collect();
            for (port, is_write, byte) in accesses {
                let port = ports.get(usize::try_from(port).unwrap() % (ports.len() + 8));
                let port = port.copied().unwrap_or(0x80);
                if is_write {
                    bus.write(0, port, &[byte]);
                } else {
                    bus.read(0, port, &mut [byte]);
                }
            }
        }
    }
}
