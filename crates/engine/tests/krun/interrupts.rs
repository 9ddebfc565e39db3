//! Every device interrupts, at the pin of the I/O APIC that the command line names, also where two
//! share one.
//!
//! The guest has interrupts off, so what arrives waits in its local APIC, where it can be read
//! (Intel's manual, volume 3, 11.8.4; the registers of an I/O APIC are those of the 82093AA).

use std::os::unix::net::UnixStream as Socket;
use std::time::Duration;

use payload_guest::Guest;

use crate::devices::start_with_all_devices;
use crate::support::alone;

const CONSOLE: u32 = 3;
const IO_APIC: u64 = 0xfec0_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;
const FIRST_VECTOR: u64 = 0x80;

/// Registers that are words, reached from the first device's.
struct Apics {
    base: u64,
}

impl Apics {
    async fn write(&self, guest: &mut Guest, address: u64, value: u64) {
        let register = address - self.base;
        guest.ask(&format!("write 0 {register:#x} {value:#x}")).await.unwrap();
    }

    async fn read(&self, guest: &mut Guest, address: u64) -> u64 {
        let register = address - self.base;
        guest.numbers(&format!("read 0 {register:#x}")).await.unwrap()[0]
    }

    /// Has edges of a pin come as this vector.
    async fn route(&self, guest: &mut Guest, pin: u64, vector: u64) {
        for (register, value) in [(0x11 + 2 * pin, 0), (0x10 + 2 * pin, vector)] {
            self.write(guest, IO_APIC, register).await;
            self.write(guest, IO_APIC + 0x10, value).await;
        }
    }

    /// Whether it waits to be delivered.
    async fn is_waiting(&self, guest: &mut Guest, vector: u64) -> bool {
        let word = self.read(guest, LOCAL_APIC + 0x200 + vector / 32 * 16).await;
        word >> (vector % 32) & 1 == 1
    }
}

/// Address and pin of each device.
async fn places(guest: &mut Guest) -> Vec<(u64, u64)> {
    let line = String::from_utf8(guest.bytes("cmdline").await.unwrap()).unwrap();
    let named = line.split(' ').filter_map(|word| word.strip_prefix("virtio_mmio.device=4K@0x"));
    let place = |text: &str| {
        let (address, pin) = text.split_once(':').unwrap();
        (u64::from_str_radix(address, 16).unwrap(), pin.parse().unwrap())
    };
    named.map(place).collect()
}

#[test]
fn every_device_interrupts_at_its_pin() {
    alone("every_device_interrupts_at_its_pin", async {
        let (_frames, ours) = Socket::pair().unwrap();
        let share = tempfile::tempdir().unwrap();
        let (_vm, mut guest) = start_with_all_devices(ours, share.path()).await;
        let guest = &mut guest;
        let places = places(guest).await;
        let devices = guest.devices().await.unwrap();
        assert_eq!((places.len(), devices.len()), (24, 24));
        assert!(places.iter().any(|(_, pin)| *pin > 15));
        // All of this is said over one of them.
        let console = devices.iter().position(|device| device.kind == CONSOLE).unwrap();
        let busy = places[console].1;
        let apics = Apics { base: places[0].0 };
        // Software enables the local APIC.
        apics.write(guest, LOCAL_APIC + 0xf0, 0x1ff).await;
        for (device, (_, pin)) in devices.iter().zip(&places) {
            let number = device.number;
            let vector = FIRST_VECTOR + number as u64;
            apics.route(guest, *pin, vector).await;
            let is_waiting = apics.is_waiting(guest, vector).await;
            assert!(!is_waiting || *pin == busy, "device {number} before it is told");
            if device.kind == CONSOLE {
                guest.devices().await.unwrap();
            } else {
                // A ring without descriptors is none: the device needs a reset, and says so.
                let steps = "0x70 0 0x70 1 0x70 3 0x24 1 0x20 1 0x70 11 0x30 0 0x44 1 0x70 15";
                guest.ask(&format!("write {number} {steps}")).await.unwrap();
                let status = guest.numbers(&format!("read {number} 0x70")).await.unwrap()[0];
                assert_eq!(status, 15 | 64, "device {number}");
            }
            // KVM passes it on when it has a moment.
            while !apics.is_waiting(guest, vector).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}
