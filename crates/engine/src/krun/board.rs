//! The devices of a machine, and where each of them is.
//!
//! First come the disks and the filesystems in the order of the specification, which is the order
//! that Linux names them in, then the network device, and what is in every machine: ports, random
//! numbers, and the way to give memory back.

use std::fmt;

use krun_arch::x86_64::layout::MMIO_MEM_START;
use virtio::balloon::local_balloon;
use virtio::console::local_port;
use virtio::entropy::local_entropy;
use virtio::memory::SharedMemory;
use virtio::net::local_network;
use virtio::{BlockOptions, DeviceError, LocalDevice, local_block, local_filesystem};

use crate::device_queues::{FILESYSTEM_QUEUES, disk_queues};
use crate::error::StartError;
use crate::spec::{DiskSpec, FilesystemSpec, NetworkSpec};

/// Bytes of a transport's registers.
pub(super) const TRANSPORT_BYTES: u64 = 4096;

/// The most devices of a machine.
#[cfg(test)]
pub(super) const MAX_DEVICES: usize =
    FIXED_DEVICES + 1 + crate::VmSpec::MAX_DISKS + crate::VmSpec::MAX_FILESYSTEMS;
const FIXED_DEVICES: usize = 3;

/// Pins of the I/O APIC that a machine of ours has to spare: not the timer's, the keyboard's, the
/// cascade's, the serial ports', the clock's (8) and the coprocessor's (13). Where devices are more,
/// two share one: drivers of virtio-mmio ask their device, and each interrupt is an edge.
const PINS: [u32; 17] = [5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23];

/// Where a transport is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: u64,
    pub(super) pin: u32,
}

/// As the kernel's command line has it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = TRANSPORT_BYTES / 1024;
        write!(f, "virtio_mmio.device={kib}K@{:#x}:{}", self.address, self.pin)
    }
}

/// Where the device with this number is.
pub(super) fn place(index: usize) -> Place {
    let address = MMIO_MEM_START + index as u64 * TRANSPORT_BYTES;
    Place { address, pin: PINS[index % PINS.len()] }
}

/// A device, and what to call it when it fails.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) device: LocalDevice,
}

/// What devices are made from.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) cpus: u32,
    pub(super) control_port: (String, std::os::unix::net::UnixStream),
    pub(super) network: Option<NetworkSpec>,
    pub(super) disks: Vec<DiskSpec>,
    pub(super) filesystems: Vec<FilesystemSpec>,
}

impl Parts {
    /// How many devices it will be.
    pub(super) fn count(&self) -> usize {
        FIXED_DEVICES
            + usize::from(self.network.is_some())
            + self.disks.len()
            + self.filesystems.len()
    }

    /// All devices, in the order of their places.
    pub(super) fn devices(self, memory: &SharedMemory) -> Result<Vec<Named>, StartError> {
        let mut devices = Vec::new();
        let queues = disk_queues(self.cpus);
        for DiskSpec { serial, disk } in self.disks {
            let options = BlockOptions { serial: serial.clone(), queues };
            match local_block(disk, options, memory) {
                Ok(device) => devices.push(Named { name: format!("disk {serial:?}"), device }),
                Err(source) => return Err(StartError::Disk { serial, source }),
            }
        }
        for FilesystemSpec { tag, server } in self.filesystems {
            match local_filesystem(&tag, server, FILESYSTEM_QUEUES, memory) {
                Ok(device) => devices.push(Named { name: format!("filesystem {tag:?}"), device }),
                Err(source) => return Err(StartError::Filesystem { tag, source }),
            }
        }
        if let Some(NetworkSpec { frames, mac, mtu }) = self.network {
            devices.push(fixed("network device", local_network(frames, mac, mtu, memory))?);
        }
        let (name, stream) = self.control_port;
        devices.push(fixed("port", local_port(&name, stream, memory))?);
        devices.push(fixed("source of random numbers", local_entropy(memory))?);
        devices.push(fixed("balloon", local_balloon(memory))?);
        Ok(devices)
    }
}

fn fixed(
    name: &'static str,
    device: Result<LocalDevice, DeviceError>,
) -> Result<Named, StartError> {
    match device {
        Ok(device) => Ok(Named { name: name.to_owned(), device }),
        Err(source) => Err(StartError::Device { device: name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_devices_have_one_place_and_the_first_seventeen_have_a_pin_each() {
        let places: Vec<Place> = (0..MAX_DEVICES).map(place).collect();
        for pair in places.windows(2) {
            assert_eq!(pair[0].address + TRANSPORT_BYTES, pair[1].address);
        }
        let mut pins: Vec<u32> = places.iter().take(PINS.len()).map(|place| place.pin).collect();
        pins.sort_unstable();
        pins.dedup();
        assert_eq!(pins.len(), 17);
        assert!(pins.iter().all(|pin| (5..24).contains(pin)), "{pins:?}");
    }
}
