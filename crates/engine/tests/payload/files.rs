//! Filesystems: a FUSE exchange over virtio-fs, with directories of the host.

use std::fs;
use std::os::unix::fs::MetadataExt;

use engine::VmSpec;
use engine::probe::EngineKind;
use payload_guest::{Chain, checksum, pattern};

use crate::fuse_driver::{
    CREATE, FORGET, Filesystem, GETATTR, LOOKUP, MKDIR, PRIORITY, REQUESTS, ROOT, directory,
    halves, header, reply, request,
};
use crate::on_every_engine;
use crate::support::{boot, spec};

on_every_engine! {
    files_of_the_host_are_looked_up_read_written_and_made,
    a_filesystem_that_begins_anew_has_forgotten,
    requests_that_make_no_sense_are_errors_and_reach_nothing,
    filesystems_are_told_apart_by_their_tags,
}

const ENOENT: i32 = 2;
const READ_WRITE: u32 = 2;

pub(crate) async fn files_of_the_host_are_looked_up_read_written_and_made(kind: EngineKind) {
    const LENGTH: usize = (1 << 20) + 4321;
    let share = tempfile::tempdir().unwrap();
    fs::write(share.path().join("in"), pattern(LENGTH, 1)).unwrap();
    fs::create_dir(share.path().join("folder")).unwrap();
    let filesystems = vec![directory("share", share.path())];
    let (_vm, mut guest) = boot(kind, VmSpec { filesystems, ..spec() }).await;
    let guest = &mut guest;
    let fs = Filesystem::all(guest).await.remove(0);
    assert_eq!(fs.lookup(guest, ROOT, "missing").await, Err(ENOENT));
    let node = fs.lookup(guest, ROOT, "in").await.unwrap();
    let attributes = fs.call(guest, GETATTR, node, &[0; 16], 104).await;
    assert_eq!((attributes.error, attributes.word(24)), (0, LENGTH as u64));

    let file = (node, fs.open(guest, node, READ_WRITE).await);
    let whole = pattern(LENGTH, 1);
    let read = fs.read(guest, file, 0, 1 << 20).await;
    assert_eq!((read.error, read.length), (0, 1 << 20));
    assert_eq!(read.sum, checksum(&whole[..1 << 20]));
    let read = fs.read(guest, file, 1 << 20, 8192).await;
    assert_eq!((read.error, read.length), (0, 4321));
    assert_eq!(read.body[..], whole[1 << 20..][..read.body.len()]);
    assert_eq!(fs.write(guest, file, 1000, 300_000, 9).await, 300_000);
    assert_eq!(fs.release(guest, file).await, 0);
    let mut expected = whole;
    expected[1000..301_000].copy_from_slice(&pattern(300_000, 9));
    assert!(fs::read(share.path().join("in")).unwrap() == expected);

    let folder = fs.lookup(guest, ROOT, "folder").await.unwrap();
    let body = [halves(&[READ_WRITE, 0o100_640, 0o22, 0]), b"new\0".to_vec()].concat();
    let created = fs.call(guest, CREATE, folder, &body, 144).await;
    assert_eq!(created.error, 0);
    let file = (created.word(0), created.word(128));
    assert_eq!(fs.write(guest, file, 5, 1 << 20, 77).await, 1 << 20);
    assert_eq!(fs.release(guest, file).await, 0);
    let made = fs::read(share.path().join("folder/new")).unwrap();
    assert!(made[..5] == [0; 5] && made[5..] == pattern(1 << 20, 77));
    let mode = fs::metadata(share.path().join("folder/new")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o640);

    // Forgotten through the queue of high priority, which has no replies.
    let forget = [header(48, FORGET, node), 1u64.to_le_bytes().to_vec()].concat();
    let taken = guest.run(fs.device, PRIORITY, &Chain::out(&forget)).await.unwrap();
    assert_eq!(taken.length, 0);
}

async fn a_filesystem_that_begins_anew_has_forgotten(kind: EngineKind) {
    let share = tempfile::tempdir().unwrap();
    fs::write(share.path().join("in"), pattern(4096, 1)).unwrap();
    let filesystems = vec![directory("share", share.path())];
    let (_vm, mut guest) = boot(kind, VmSpec { filesystems, ..spec() }).await;
    let guest = &mut guest;
    for _ in 0..3 {
        let fs = Filesystem::all(guest).await.remove(0);
        let node = fs.lookup(guest, ROOT, "in").await.unwrap();
        let file = (node, fs.open(guest, node, 0).await);
        guest.set_up(fs.device, u64::MAX).await.unwrap();
        fs.init(guest).await;
        assert_ne!(fs.read(guest, file, 0, 4096).await.error, 0, "of before");
    }
}

async fn requests_that_make_no_sense_are_errors_and_reach_nothing(kind: EngineKind) {
    let outside = tempfile::tempdir().unwrap();
    let share = outside.path().join("share");
    fs::create_dir(&share).unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let filesystems = vec![directory("share", &share)];
    let (_vm, mut guest) = boot(kind, VmSpec { filesystems, ..spec() }).await;
    let guest = &mut guest;
    let fs = Filesystem::all(guest).await.remove(0);
    for name in ["..", "../secret", "/etc", "", "."] {
        let named = [name.as_bytes(), &[0]].concat();
        let looked_up = fs.lookup(guest, ROOT, name).await;
        assert!(looked_up.is_err(), "{name:?}: {looked_up:?}");
        let body = [halves(&[0o755, 0]), named].concat();
        assert_ne!(fs.call(guest, MKDIR, ROOT, &body, 128).await.error, 0, "{name:?}");
    }
    let mut senseless = vec![
        request(LOOKUP, ROOT, b"without an end", 128),
        request(LOOKUP, 0xdead_beef, b"name\0", 128),
        request(LOOKUP, ROOT, &[b'x'; 300], 128),
        request(4_000_000_000, ROOT, &[0; 100], 128),
        request(GETATTR, ROOT, &[], 104),
    ];
    // Longer and shorter than it is, and no room for what is asked for.
    for length in [0, 39, 41, 4096, usize::try_from(u32::MAX).unwrap()] {
        let wrong = [header(length, LOOKUP, ROOT), b"in\0".to_vec()].concat();
        senseless.push(Chain::out(&wrong).and_input(16).and_input(128));
    }
    senseless.push(request(GETATTR, ROOT, &[0; 16], 10));
    for chain in senseless {
        // Some are answered with an error, some with no byte at all; none stays away.
        let taken = guest.run(fs.device, REQUESTS, &chain).await.unwrap();
        if taken.length > 0 {
            assert_ne!(reply(&taken).error, 0, "{chain:?}");
        }
    }
    let short = Chain::out(&header(40, LOOKUP, ROOT)[..20]).and_input(16);
    assert_eq!(guest.run(fs.device, REQUESTS, &short).await.unwrap().length, 0);
    assert_eq!(fs.lookup(guest, ROOT, "missing").await, Err(ENOENT), "it goes on");
    assert_eq!(fs::read_dir(&share).unwrap().count(), 0);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2);
}

async fn filesystems_are_told_apart_by_their_tags(kind: EngineKind) {
    let share = tempfile::tempdir().unwrap();
    let mut spec = spec();
    let tags = ["one", "a.longer-tag_with-thirty-six-letters", "three"];
    for tag in tags {
        let path = share.path().join(tag);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(format!("only-in-{tag}")), "").unwrap();
        spec.filesystems.push(directory(tag, &path));
    }
    let (_vm, mut guest) = boot(kind, spec).await;
    let found = Filesystem::all(&mut guest).await;
    assert_eq!(found.len(), tags.len());
    for (fs, tag) in found.iter().zip(tags) {
        assert_eq!(fs.tag(&mut guest).await, tag);
        for other in tags {
            let looked_up = fs.lookup(&mut guest, ROOT, &format!("only-in-{other}")).await;
            assert_eq!(looked_up.is_ok(), other == tag);
        }
    }
}
