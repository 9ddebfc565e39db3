//! What a front end may set up, and what not.

use std::fs::File;
use std::os::fd::AsFd;

use nix::fcntl::SealFlag;
use virtio::DeviceError;

use crate::driver::{FrontEnd, MEMORY, RING, USER, disk, memfd, pair, table};
use crate::socket::{
    GET_CONFIG, GET_FEATURES, GET_QUEUE_NUM, SET_FEATURES, SET_MEM_TABLE, SET_VRING_ADDR,
    SET_VRING_BASE, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM,
};

#[test]
fn features_queues_and_configuration() {
    let front_end = FrontEnd::connect(disk(64));
    let features = front_end.socket.ask_u64(GET_FEATURES);
    // Version 1, event index, indirect descriptors, several queues, block size, read-only,
    // segment limits.
    for bit in [32, 29, 28, 12, 6, 5, 2, 1] {
        assert!(features & 1 << bit != 0, "feature {bit}");
    }
    assert_eq!(features & (1 << 9 | 1 << 13 | 1 << 14), 0, "nothing that changes a disk");
    assert_eq!(front_end.socket.ask_u64(GET_QUEUE_NUM), 2);
    let question = [60u32.to_ne_bytes(); 1].concat();
    let header = [0u32.to_ne_bytes().to_vec(), question, 0u32.to_ne_bytes().to_vec()].concat();
    let answer = front_end.socket.ask(GET_CONFIG, &[header, vec![0; 60]].concat()).unwrap();
    let config = &answer[12..];
    assert_eq!(config[..8], 64u64.to_le_bytes());
    assert_eq!(config[12..16], 126u32.to_le_bytes());
    assert_eq!(config[20..24], 512u32.to_le_bytes());
    assert_eq!(config[34..36], 2u16.to_le_bytes());
    front_end.server.stop().unwrap();
}

/// A connected front end whose one message is refused, and so ends the device with a failure.
fn refused(message: impl FnOnce(&FrontEnd) -> bool) {
    let front_end = FrontEnd::connect(disk(64));
    assert!(front_end.share_memory());
    assert!(!message(&front_end), "it was accepted");
    assert!(front_end.socket.is_closed());
    let failure = front_end.server.stop();
    assert!(matches!(failure, Err(DeviceError::Protocol(_))), "{failure:?}");
}

#[test]
fn memory_that_would_end_the_process_when_touched() {
    let size = MEMORY as u64;
    let share = |file: File, regions: &[(u64, u64, u64, u64)]| {
        refused(|front_end| {
            let files = vec![file.as_fd(); regions.len()];
            front_end.socket.tell(SET_MEM_TABLE, &table(regions), &files)
        });
    };
    let sealed = || memfd(size, SealFlag::F_SEAL_SHRINK);
    share(memfd(size, SealFlag::F_SEAL_GROW), &[(0, size, USER, 0)]);
    share(tempfile::tempfile().unwrap(), &[(0, size, USER, 0)]);
    share(File::open("/dev/zero").unwrap(), &[(0, size, USER, 0)]);
    share(sealed(), &[(0, size + 4096, USER, 0)]);
    share(sealed(), &[(0, size, USER, 4096)]);
    share(sealed(), &[(0, size, USER, 0u64.wrapping_sub(4096))]);
    share(sealed(), &[(0, 0, USER, 0)]);
    share(sealed(), &[(u64::MAX - 4096, size, USER, 0)]);
    share(sealed(), &[(0, size, u64::MAX - 4096, 0)]);
    share(sealed(), &[(0, size, USER, 0), (size - 4096, size, USER + size, 0)]);
    share(sealed(), &[(0, 4096, USER, 1)]);
    let many: Vec<_> = (0..20).map(|at| (at << 20, 4096, USER + (at << 20), 0)).collect();
    share(sealed(), &many);
}

#[test]
fn rings_that_cannot_be() {
    let end = USER + MEMORY as u64;
    for size in [0, 3, u32::from(RING) + 1, 2048, 65536, u32::MAX] {
        refused(|front_end| front_end.socket.tell(SET_VRING_NUM, &pair(0, size), &[]));
    }
    refused(|front_end| front_end.socket.tell(SET_VRING_NUM, &pair(2, 64), &[]));
    refused(|front_end| front_end.socket.tell(SET_VRING_NUM, &pair(u32::MAX, 64), &[]));
    refused(|front_end| front_end.socket.tell(SET_VRING_BASE, &pair(0, 65536), &[]));
    refused(|front_end| front_end.socket.tell(SET_VRING_ENABLE, &pair(2, 1), &[]));
    refused(|front_end| front_end.start_at(0, 0, [end, USER, USER]));
    refused(|front_end| front_end.start_at(0, 0, [USER, end, USER]));
    refused(|front_end| front_end.start_at(0, 0, [0, USER, USER]));
    refused(|front_end| front_end.start_at(0, 0, [USER + 1, USER, USER]));
    refused(|front_end| front_end.start_at(0, 0, [USER, USER + 2, USER]));
    refused(|front_end| front_end.socket.tell(SET_VRING_ADDR, &pair(0, 0), &[]));
    refused(|front_end| front_end.socket.tell(SET_FEATURES, &u64::MAX.to_ne_bytes(), &[]));
}

#[test]
fn a_ring_that_reaches_out_of_the_memory_is_not_served() {
    let front_end = FrontEnd::connect(disk(64));
    assert!(front_end.share_memory());
    let end = USER + MEMORY as u64;
    assert!(front_end.start_at(0, 0, [end - 64, USER, USER + 0x1000]));
    assert!(FrontEnd::wait(&front_end.rings[0].error));
    front_end.server.stop().unwrap();
}

#[test]
fn a_kick_that_is_no_eventfd() {
    let file = tempfile::tempfile().unwrap();
    refused(|front_end| {
        assert!(front_end.start(0, 0));
        front_end.socket.tell(SET_VRING_KICK, &0u64.to_ne_bytes(), &[file.as_fd()])
    });
    // Bit 8: there is none, look at the ring all the time.
    refused(|front_end| front_end.socket.tell(SET_VRING_KICK, &0x100u64.to_ne_bytes(), &[]));
}

#[test]
fn a_running_ring_is_not_rearranged() {
    refused(|front_end| {
        assert!(front_end.start(0, 0));
        front_end.socket.tell(SET_VRING_NUM, &pair(0, 32), &[])
    });
}

#[test]
fn memory_can_be_replaced_while_rings_run() {
    let front_end = FrontEnd::running(disk(64));
    for round in 0..20u16 {
        front_end.put_read(0, 0, u64::from(round), 1);
        front_end.submit(0, &[0]);
        assert!(front_end.share_memory());
        front_end.wait_used(0, round + 1);
        assert_eq!(front_end.status(0), 0);
    }
    front_end.server.stop().unwrap();
}

#[test]
fn options_that_are_refused() {
    for (serial, queues) in [("", 1), ("a-serial-of-21-bytes!", 1), ("bell\u{7}", 1), ("é", 1)]
        .into_iter()
        .chain([("fine", 0), ("fine", 17)])
    {
        let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let options = virtio::BlockOptions { serial: serial.to_owned(), queues };
        let served = virtio::serve_block(theirs, disk(1), options);
        assert!(matches!(served, Err(DeviceError::Serial(_) | DeviceError::Queues(_))));
    }
}
