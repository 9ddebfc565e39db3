//! Machines of a process that has confined itself as the helper does: every thread of a machine can
//! do what its work needs, and asks for nothing that it may not.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;

use confine::{Access, Grant, Plan};
use engine::probe::EngineKind;

use crate::support::{PATIENCE, one_at_a_time, runtime, unusable};
use crate::sys::in_a_copy;
use crate::{blocks, boot, files, frames, lifecycle};

const KIND: EngineKind = EngineKind::Krun;

#[test]
fn machines_of_a_confined_process_lack_nothing() {
    if let Some(reason) = unusable(KIND) {
        println!("skipped: machines_of_a_confined_process_lack_nothing on {KIND}: {reason}");
        return;
    }
    let _turn = one_at_a_time();
    in_a_copy(|| {
        let refused = confine_this_process();
        // Every device, files of the host, and the ways in which a machine stops.
        let uses = async {
            blocks::what_the_guest_writes_is_on_the_disk_and_what_is_there_it_reads(KIND).await;
            boot::random_numbers_come_and_never_the_same(KIND).await;
            files::files_of_the_host_are_looked_up_read_written_and_made(KIND).await;
            frames::frames_of_every_size_go_both_ways(KIND).await;
            lifecycle::a_paused_guest_stands_still_and_goes_on(KIND).await;
            lifecycle::kill_ends_a_guest_that_never_looks_up(KIND).await;
        };
        runtime().block_on(async {
            tokio::time::timeout(PATIENCE, uses).await.expect("in time");
        });
        nothing_was_refused(refused);
    });
}

/// What comes back is where the numbers of refused system calls come.
fn confine_this_process() -> OwnedFd {
    let files = engine::Files::of_host();
    let plan = Plan {
        grants: vec![Grant::new(Access::Write, std::env::temp_dir())],
        system: files.system,
        devices: files.devices,
        ..Plan::default()
    };
    let jail = confine::enter(&plan).unwrap();
    let refused = confine::seal(jail.facts).unwrap();
    assert!(File::open("/etc/passwd").is_err(), "{:?}", jail.report);
    refused
}

fn nothing_was_refused(refused: OwnedFd) {
    let mut number = [0; 4];
    match File::from(refused).read_exact(&mut number) {
        Ok(()) => panic!("a system call was refused: {}", u32::from_le_bytes(number)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}
