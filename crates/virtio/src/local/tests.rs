use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{Bytes, GuestMemoryMmap};

use super::*;
use crate::console::local_port;
use crate::entropy::local_entropy;
use crate::net::local_network;

const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFER: u64 = 0x4000;
const WRITE: u16 = 2;
const FEATURES: u64 = 1 << VIRTIO_F_VERSION_1;

/// A driver with one ring.
struct Driver {
    memory: SharedMemory,
    device: LocalDevice,
    kick: File,
    told: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
}

impl Driver {
    fn new(make: impl FnOnce(&SharedMemory) -> Result<LocalDevice, DeviceError>) -> Self {
        let regions = [(GuestAddress(0), 1 << 20)];
        let memory = SharedMemory::new(GuestMemoryMmap::from_ranges(&regions).unwrap());
        let kick = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let kick = File::from(std::os::fd::OwnedFd::from(kick));
        let (told, broken) = (Arc::default(), Arc::default());
        Self { device: make(&memory).unwrap(), memory, kick, told, broken }
    }

    fn activate(&mut self, queue: usize, size: u16, used: u64) -> Result<(), DeviceError> {
        let count = |counter: &Arc<AtomicUsize>| -> Interrupt {
            let counter = Arc::clone(counter);
            Arc::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            })
        };
        let interrupts = Interrupts { used: count(&self.told), broken: count(&self.broken) };
        let kick = self.kick.try_clone().unwrap();
        let setup =
            RingSetup { queue, size, descriptors: DESCRIPTORS, available: AVAILABLE, used, kick };
        self.device.activate(FEATURES, vec![setup], &interrupts)
    }

    fn write(&self, value: u16, at: u64) {
        self.memory.memory().write_obj(value, GuestAddress(at)).unwrap();
    }

    /// Makes one buffer available that the device is to write.
    fn offer(&self, length: u32) {
        let memory = self.memory.memory();
        memory.write_obj(BUFFER, GuestAddress(DESCRIPTORS)).unwrap();
        memory.write_obj(length, GuestAddress(DESCRIPTORS + 8)).unwrap();
        self.write(WRITE, DESCRIPTORS + 12);
        self.write(1, AVAILABLE + 2);
    }

    fn used(&self) -> u16 {
        self.memory.memory().read_obj(GuestAddress(USED + 2)).unwrap()
    }

    fn forget(&self) {
        let memory = self.memory.memory();
        memory.write_slice(&[0; 0x3000], GuestAddress(DESCRIPTORS)).unwrap();
    }
}

fn soon(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed().as_secs() < 60, "in time");
        std::thread::yield_now();
    }
}

fn pair() -> (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream) {
    std::os::unix::net::UnixStream::pair().unwrap()
}

#[test]
fn a_ring_is_served_and_after_a_reset_another() {
    let mut driver = Driver::new(local_entropy);
    for round in 1..4 {
        driver.offer(32);
        driver.activate(0, 16, USED).unwrap();
        soon(|| driver.used() == 1);
        soon(|| driver.told.load(Ordering::SeqCst) == round);
        let mut bytes = [0; 32];
        driver.memory.memory().read_slice(&mut bytes, GuestAddress(BUFFER)).unwrap();
        assert_ne!(bytes, [0; 32]);
        driver.device.reset();
        driver.forget();
    }
    assert_eq!(driver.broken.load(Ordering::SeqCst), 0);
}

#[test]
fn a_request_that_waits_is_forgotten_by_a_reset() {
    let (host, ours) = pair();
    let mut driver = Driver::new(|host| local_network(ours, [2, 0, 0, 0, 0, 1], 1500, host));
    driver.offer(2000);
    driver.activate(0, 16, USED).unwrap();
    driver.device.reset();
    driver.forget();
    // The frame finds nobody, and then the driver that came after.
    std::io::Write::write_all(&mut &host, b"\0\0\0\x0ehello, machine").unwrap();
    assert_eq!(driver.used(), 0);
    driver.offer(2000);
    driver.activate(0, 16, USED).unwrap();
    soon(|| driver.used() == 1);
    let mut frame = [0; 14];
    driver.memory.memory().read_slice(&mut frame, GuestAddress(BUFFER + 12)).unwrap();
    assert_eq!(&frame, b"hello, machine");
}

#[test]
fn rings_that_cannot_be_are_refused_or_broken() {
    let mut driver = Driver::new(local_entropy);
    for (queue, size) in [(0, 0), (0, 3), (0, 2048), (1, 16), (usize::MAX, 16)] {
        let refused = driver.activate(queue, size, USED);
        assert!(matches!(refused, Err(DeviceError::Ring(_))), "{queue} {size}: {refused:?}");
        driver.device.reset();
    }
    // In no memory.
    if driver.activate(0, 16, 1 << 40).is_ok() {
        soon(|| driver.broken.load(Ordering::SeqCst) == 1);
    }
    driver.device.reset();
    // A buffer in no memory.
    driver.offer(32);
    driver.memory.memory().write_obj(u64::MAX, GuestAddress(DESCRIPTORS)).unwrap();
    let before = driver.broken.load(Ordering::SeqCst);
    driver.activate(0, 16, USED).unwrap();
    soon(|| driver.broken.load(Ordering::SeqCst) == before + 1);
    assert_eq!(driver.used(), 0);
    assert!(!driver.device.is_finished());
}

#[test]
fn what_waits_for_ever_does_not_hold_up_the_end() {
    let (_host, ours) = pair();
    let mut driver = Driver::new(|host| local_port("a.port", ours, host));
    driver.offer(64);
    // Nobody has opened the port, so nothing comes.
    driver.activate(4, 16, USED).unwrap();
    drop(driver);
}
