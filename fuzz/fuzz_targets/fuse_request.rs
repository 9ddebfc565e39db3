//! FUSE requests as a hostile guest writes them, to a host directory: no panic, every reply well
//! formed, nothing outside the share touched.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vfs::fuse::{Limits, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};
use vfs::{Observer, Readable, Writable};

/// Left out: a plausible one fills the disk of whoever runs this.
const FALLOCATE: u32 = 43;

struct Share {
    outer: TempDir,
    runtime: Runtime,
}

fn share() -> &'static Share {
    static SHARE: OnceLock<Share> = OnceLock::new();
    SHARE.get_or_init(|| {
        let outer = TempDir::new().expect("a temporary directory");
        std::fs::create_dir(outer.path().join("share")).expect("an empty directory");
        std::fs::write(outer.path().join("outside"), "untouched").expect("a small file");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        Share { outer, runtime }
    })
}

/// INIT of Linux 6.1, offering everything.
fn init() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [104_u32, 26, 1, 0, 0, 0, 0, 0, 0, 0, 7, 37, 131_072, u32::MAX, u32::MAX] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(104, 0);
    bytes
}

/// The input is a row of requests: two bytes of length, then opcode and node (a byte each, so that
/// they are often plausible), then the body.
fn requests(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![init()];
    while let [low, high, opcode, node, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, after) = rest.split_at(length);
        input = after;
        let mut bytes = Vec::with_capacity(40 + length);
        let total = u32::try_from(40 + length).unwrap_or(u32::MAX);
        for word in [total, u32::from(*opcode), 7, 0, u32::from(*node), 0, 0, 0, 1, 0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(body);
        if u32::from(*opcode) != FALLOCATE {
            all.push(bytes);
        }
    }
    all
}

fuzz_target!(|input: &[u8]| {
    let share = share();
    let options = HostDirOptions::new(share.outer.path().join("share"), Access::ReadWrite);
    let fs = HostDir::new(options, &Observer::new(|_| {})).expect("the share can be opened");
    let server = Server::new(fs, Limits::default(), Observer::new(|_| {}));
    share.runtime.block_on(async {
        for request in requests(input) {
            let mut room = Writable::with_capacity(66_000);
            let length = server.handle(Readable::from(request), &mut room).await;
            let reply = room.to_vec(length);
            assert!(length == 0 || reply[..4] == u32::try_from(length).unwrap_or(0).to_le_bytes());
        }
    });
    let outside = std::fs::read(share.outer.path().join("outside")).expect("it is still there");
    assert_eq!(outside, b"untouched");
    assert_eq!(std::fs::read_dir(share.outer.path()).expect("it is there").count(), 2);
});
