//! Rings that run.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;

use blockcow::{Disk, ImageFormat};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use crate::driver::{DATA, FrontEnd, NEXT, RING, WRITE, disk, sector_content};
use crate::socket::SET_VRING_CALL;

#[test]
fn requests_are_answered_with_data_status_and_length() {
    let front_end = FrontEnd::running(disk(64));
    let data = front_end.put_read(0, 0, 5, 2);
    front_end.submit(0, &[0]);
    assert!(FrontEnd::wait(&front_end.rings[0].call));
    assert_eq!(front_end.used(0), 1);
    assert_eq!(front_end.status(0), 0);
    let mut bytes = vec![0; 1024];
    front_end.memory.read_slice(&mut bytes, GuestAddress(data)).unwrap();
    assert_eq!(bytes, [sector_content(5), sector_content(6)].concat());
    assert_eq!(front_end.used_entry(0, 0), (0, 1025));
    front_end.server.stop().unwrap();
}

#[test]
fn both_rings_and_more_requests_than_a_ring_holds() {
    let front_end = FrontEnd::running(disk(512));
    for round in 0..40u16 {
        for index in 0..2 {
            for slot in 0..20u16 {
                front_end.put_read(index, slot, u64::from(slot + round), 1);
            }
            let heads: Vec<u16> = (0..20).map(|slot| slot * 3).collect();
            front_end.submit(index, &heads);
            front_end.wait_used(index, (round + 1) * 20);
            for slot in 0..20u16 {
                assert_eq!(front_end.status(slot), 0);
                let data = DATA + u64::from(slot) * (64 << 10);
                let mut bytes = vec![0; 512];
                front_end.memory.read_slice(&mut bytes, GuestAddress(data)).unwrap();
                assert_eq!(bytes, sector_content(u64::from(slot + round)));
            }
        }
    }
    front_end.server.stop().unwrap();
}

/// A disk whose reads are slow: a compressed image of which nothing is in memory.
fn slow_disk() -> Option<Arc<Disk>> {
    let raw = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..8192).flat_map(sector_content).collect();
    std::fs::write(raw.path(), content).unwrap();
    let image = tempfile::NamedTempFile::new().unwrap();
    let convert = ["convert", "-c", "-f", "raw", "-O", "qcow2"];
    let status = Command::new("qemu-img").args(convert).args([raw.path(), image.path()]).status();
    if !status.is_ok_and(|status| status.success()) {
        println!("skipped: no qemu-img");
        return None;
    }
    let file = File::open(image.path()).unwrap();
    Some(Arc::new(Disk::open(file, ImageFormat::Qcow2).unwrap()))
}

#[test]
fn a_ring_that_is_stopped_has_given_everything_back() {
    let Some(disk) = slow_disk() else { return };
    for _ in 0..20 {
        let front_end = FrontEnd::running(Arc::clone(&disk));
        let heads: Vec<u16> = (0..20).map(|slot| slot * 3).collect();
        for slot in 0..20u16 {
            front_end.put_read(0, slot, u64::from(slot) * 300, 128);
        }
        front_end.submit(0, &heads);
        let base = front_end.stop(0);
        assert_eq!(base, u32::from(front_end.used(0)), "taken and not given back");
        assert!(front_end.start(0, base));
        front_end.wait_used(0, 20);
        assert!((0..20).all(|slot| front_end.status(slot) == 0));
        front_end.server.stop().unwrap();
    }
}

#[test]
fn hanging_up_amid_requests_ends_the_device() {
    let Some(disk) = slow_disk() else { return };
    for _ in 0..20 {
        let front_end = FrontEnd::running(Arc::clone(&disk));
        for slot in 0..20u16 {
            front_end.put_read(0, slot, u64::from(slot) * 300, 128);
        }
        front_end.submit(0, &(0..20).map(|slot| slot * 3).collect::<Vec<_>>());
        let FrontEnd { socket, server, .. } = front_end;
        drop(socket);
        server.stop().unwrap();
    }
}

#[test]
fn a_ring_that_broke_the_rules_is_left_alone_and_the_other_goes_on() {
    let front_end = FrontEnd::running(disk(64));
    // A descriptor that is its own successor.
    front_end.put_descriptor(0, 2, Descriptor::new(DATA, 16, NEXT, 2));
    front_end.submit(0, &[2]);
    assert!(FrontEnd::wait(&front_end.rings[0].error));
    assert_eq!(front_end.used(0), 0);

    front_end.put_read(1, 9, 1, 1);
    front_end.submit(1, &[27]);
    front_end.wait_used(1, 1);

    // Set up anew, behind the bad request, it serves again.
    assert_eq!(front_end.stop(0), 1);
    assert!(front_end.start(0, 1));
    front_end.put_read(0, 3, 1, 1);
    front_end.submit(0, &[9]);
    front_end.wait_used(0, 1);
    assert_eq!(front_end.status(3), 0);
    front_end.server.stop().unwrap();
}

#[test]
fn an_index_that_runs_ahead_of_the_ring_breaks_it() {
    let front_end = FrontEnd::running(disk(64));
    front_end.set_available(0, RING + 1);
    front_end.rings[0].kick.write(1).unwrap();
    assert!(FrontEnd::wait(&front_end.rings[0].error));
    front_end.server.stop().unwrap();
}

#[test]
fn a_head_out_of_the_table_breaks_the_ring() {
    let front_end = FrontEnd::running(disk(64));
    front_end.submit(0, &[RING]);
    assert!(FrontEnd::wait(&front_end.rings[0].error));
    front_end.server.stop().unwrap();
}

#[test]
fn a_ring_that_its_own_data_overwrites_does_no_harm() {
    let front_end = FrontEnd::running(disk(2048));
    front_end.put_read(0, 0, 0, 1);
    // Over both rings: descriptors, available, and used.
    front_end.put_chain(0, 1, &[(0, 0x8000, NEXT | WRITE)]);
    front_end.put_chain(0, 2, &[(DATA, 1, WRITE)]);
    front_end.submit(0, &[0, 0, 0, 0]);
    front_end.server.stop().unwrap();
}

#[test]
fn a_full_pipe_as_notifier_does_not_hold_up_the_device() {
    let front_end = FrontEnd::running(disk(64));
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    while let Ok(1..) = {
        let mut ready = [nix::poll::PollFd::new(writer.as_fd(), nix::poll::PollFlags::POLLOUT)];
        nix::poll::poll(&mut ready, nix::poll::PollTimeout::ZERO)
    } {
        nix::unistd::write(&writer, &[0; 4096]).unwrap();
    }
    assert!(front_end.socket.tell(SET_VRING_CALL, &0u64.to_ne_bytes(), &[writer.as_fd()]));
    for round in 0..5 {
        front_end.put_read(0, 0, 0, 1);
        front_end.submit(0, &[0]);
        front_end.wait_used(0, round + 1);
    }
    front_end.server.stop().unwrap();
}
