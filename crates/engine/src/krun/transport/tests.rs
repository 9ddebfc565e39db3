use virtio::entropy::local_entropy;

use super::*;
use crate::sys::guest_vm;

const ENTROPY: u32 = 4;
const RINGS: [u32; 3] = [0x1000, 0x2000, 0x3000];

fn transport() -> Transport {
    let memory = guest_vm::map(&[(0, 1 << 20)]).unwrap();
    Transport::new(local_entropy(&memory).unwrap()).unwrap()
}

impl Transport {
    fn get(&mut self, register: u64) -> u32 {
        let mut word = [0; 4];
        self.read(0, register, &mut word);
        u32::from_le_bytes(word)
    }

    fn set(&mut self, register: u64, value: u32) {
        self.write(0, register, &value.to_le_bytes());
    }

    /// Up to FEATURES_OK.
    fn agree(&mut self, high: u32) {
        self.set(register::STATUS, 0);
        self.set(register::STATUS, 1);
        self.set(register::STATUS, 3);
        self.set(register::DRIVER_FEATURES_SELECT, 1);
        self.set(register::DRIVER_FEATURES, high);
        self.set(register::STATUS, 11);
    }

    fn set_up(&mut self, rings: [u32; 3], size: u32) {
        self.agree(1);
        self.set(register::QUEUE_SIZE, size);
        self.set(register::DESCRIPTORS_LOW, rings[0]);
        self.set(register::AVAILABLE_LOW, rings[1]);
        self.set(register::USED_LOW, rings[2]);
        self.set(register::QUEUE_READY, 1);
        self.set(register::STATUS, 15);
    }
}

#[test]
fn a_driver_that_keeps_the_order_gets_its_device() {
    let mut transport = transport();
    assert_eq!(transport.get(register::MAGIC), MAGIC);
    assert_eq!(transport.get(register::VERSION), 2);
    assert_eq!(transport.get(register::DEVICE_ID), ENTROPY);
    transport.set_up(RINGS, 16);
    assert_eq!(transport.get(register::STATUS), 15);
    assert_eq!(transport.get(register::QUEUE_READY), 1);
    transport.set(register::STATUS, 0);
    assert_eq!(transport.get(register::STATUS), 0);
    assert_eq!(transport.get(register::QUEUE_READY), 0);
}

#[test]
fn features_that_were_not_offered_or_of_old_drivers_are_not_agreed_to() {
    let mut transport = transport();
    for high in [0, 3, u32::MAX] {
        transport.agree(high);
        assert_eq!(transport.get(register::STATUS), 3, "{high:#x}");
    }
    transport.agree(1);
    assert_eq!(transport.get(register::STATUS), 11);
    // Too late.
    transport.set(register::DRIVER_FEATURES, u32::MAX);
    transport.set(register::STATUS, 15);
    assert_eq!(transport.get(register::STATUS), 15);
}

#[test]
fn a_device_that_was_given_up_is_had_back_by_a_reset() {
    let mut transport = transport();
    transport.set(register::STATUS, u32::MAX);
    assert_eq!(transport.get(register::STATUS), 1 | 2 | 128, "nothing was agreed to");
    transport.set_up(RINGS, 16);
    assert_eq!(transport.get(register::STATUS), 15);
    transport.set(register::STATUS, 15 | 128);
    assert_eq!(transport.get(register::STATUS), 15 | 128);
    transport.set_up(RINGS, 16);
    assert_eq!(transport.get(register::STATUS), 15);
}

#[test]
fn rings_that_cannot_be_are_told_as_a_need_to_reset() {
    let mut transport = transport();
    let beyond = [0x1000, 0x2000, 0xffff_0000];
    let crooked = [0x1001, 0x2000, 0x3000];
    for (rings, size) in [(RINGS, 0), (RINGS, 3), (RINGS, 1 << 20), (crooked, 16), (beyond, 16)] {
        transport.set_up(rings, size);
        // Where it is, is only found when it is served.
        let begun = std::time::Instant::now();
        while transport.get(register::STATUS) & status::NEEDS_RESET == 0 {
            assert!(begun.elapsed().as_secs() < 60, "{rings:x?} {size}");
            std::thread::yield_now();
        }
        assert_eq!(transport.get(register::INTERRUPT_STATUS) & 2, 2);
        transport.set(register::INTERRUPT_ACKNOWLEDGE, 2);
        assert_eq!(transport.get(register::INTERRUPT_STATUS), 0);
    }
    transport.set_up(RINGS, 16);
    assert_eq!(transport.get(register::STATUS), 15);
}

#[test]
fn queues_that_are_not_there_and_accesses_of_other_sizes_are_nothing() {
    let mut transport = transport();
    transport.agree(1);
    transport.set(register::QUEUE_SELECT, 7);
    assert_eq!(transport.get(register::QUEUE_SIZE_MAX), 0);
    transport.set(register::QUEUE_READY, 1);
    assert_eq!(transport.get(register::QUEUE_READY), 0);
    transport.set(register::QUEUE_NOTIFY, u32::MAX);
    let mut half = [7; 2];
    transport.read(0, register::MAGIC, &mut half);
    assert_eq!(half, [7; 2]);
    transport.write(0, register::STATUS, &[0, 0]);
    assert_eq!(transport.get(register::STATUS), 11);
    let mut config = [7; 8];
    transport.read(0, 0xff8, &mut config);
    assert_eq!(config, [0; 8]);
    transport.write(0, CONFIG, &[1; 4]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn after_any_accesses_a_reset_gives_the_device_back(
        accesses in proptest::collection::vec(
            (0u64..0x48, proptest::prelude::any::<u32>(), 0u32..5), 1..120,
        )
    ) {
        let mut transport = transport();
        for (register, value, kind) in accesses {
            match kind {
                0 => drop(transport.get(register * 4)),
                // What a driver means to write, in any order.
                1 => transport.set(register::STATUS, value & 15),
                2 => transport.agree(1),
                3 => transport.set(register * 4, value % 20),
                _ => transport.set(register * 4, value),
            }
        }
        transport.set_up(RINGS, 16);
        proptest::prop_assert_eq!(transport.get(register::STATUS), 15);
    }
}
