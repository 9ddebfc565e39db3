//! What the server refuses whatever stands behind it, and that no bytes make it fall over.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::model::Model;
use common::raw::{ROOT, Raw, init, request, u32s, u64_at, z};
use proptest::prelude::*;
use vfs::callbacks::{
    CallbackFs, CallbackOptions, Callbacks, DirectoryEntry, Features, FilePath, FileStat,
};
use vfs::fuse::{Limits, Opcode};
use vfs::host_dir::{Access, HostDir, HostDirOptions};
use vfs::{Errno, Event, Kind, Observer, Readable, Writable};

fn model() -> CallbackFs<Model> {
    let model = Model::new(Features::ALL);
    model.put("/f", b"0123456789");
    CallbackFs::new(model, CallbackOptions::default(), Observer::log())
}

fn host_dir(path: &std::path::Path) -> HostDir {
    HostDir::new(HostDirOptions::new(path, Access::ReadWrite), &Observer::log()).unwrap()
}

#[tokio::test]
async fn nothing_is_served_before_init_nor_init_twice() {
    let raw = Raw::without_init(model(), Limits::default(), Observer::log());
    for opcode in Opcode::ALL {
        if !matches!(
            opcode,
            Opcode::Init | Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt
        ) {
            assert!(raw.call(*opcode, ROOT, &[0; 96]).await.is_err(), "{opcode:?}");
        }
    }
    assert_eq!(raw.call(Opcode::GetAttr, ROOT, &[0; 16]).await, Err(libc::EIO));
    raw.call(Opcode::Init, 0, &init()).await.unwrap();
    assert_eq!(raw.call(Opcode::Init, 0, &init()).await, Err(libc::EIO));
    raw.call(Opcode::GetAttr, ROOT, &[0; 16]).await.unwrap();
    raw.call(Opcode::Destroy, 0, &[]).await.unwrap();
    assert_eq!(raw.call(Opcode::GetAttr, ROOT, &[0; 16]).await, Err(libc::EIO));
    raw.call(Opcode::Init, 0, &init()).await.unwrap();
}

#[tokio::test]
async fn unknown_opcodes_are_enosys_and_ioctls_enotty() {
    let raw = Raw::new(model()).await;
    for number in [0, 7, 19, 53, 4096, u32::MAX] {
        assert_eq!(raw.call_number(number, ROOT, &[0; 8]).await, Err(libc::ENOSYS));
    }
    assert_eq!(raw.call(Opcode::Ioctl, ROOT, &[0; 32]).await, Err(libc::ENOTTY));
    assert_eq!(raw.call(Opcode::SetupMapping, ROOT, &[0; 40]).await, Err(libc::ENOSYS));
}

#[tokio::test]
async fn names_that_could_leave_a_directory_are_refused_in_every_request_that_has_one() {
    let outer = tempfile::tempdir().unwrap();
    std::fs::create_dir(outer.path().join("share")).unwrap();
    std::fs::write(outer.path().join("secret"), "s").unwrap();
    let raw = Raw::new(host_dir(&outer.path().join("share"))).await;
    raw.create(ROOT, b"f").await.unwrap();
    let names: [&[u8]; 8] =
        [b"", b".", b"..", b"../secret", b"/etc/passwd", b"a/b", b"f\0g", &[b'x'; 256]];
    for name in names {
        let mut requests = vec![
            (Opcode::Lookup, z(name)),
            (Opcode::Unlink, z(name)),
            (Opcode::RmDir, z(name)),
            (Opcode::MkDir, [u32s(&[0o755, 0]), z(name)].concat()),
            (Opcode::MkNod, [u32s(&[0o100_644, 0, 0, 0]), z(name)].concat()),
            (Opcode::Create, [u32s(&[0o102, 0o644, 0, 0]), z(name)].concat()),
            (Opcode::Link, [&2_u64.to_le_bytes()[..], &z(name)].concat()),
            (Opcode::Symlink, [z(name), z(b"target")].concat()),
        ];
        for (from, to) in [(name, &b"g"[..]), (b"f", name)] {
            let head = ROOT.to_le_bytes();
            requests.push((Opcode::Rename, [&head[..], &z(from), &z(to)].concat()));
            let head = [&head[..], &[0; 8]].concat();
            requests.push((Opcode::Rename2, [head, z(from), z(to)].concat()));
        }
        for (opcode, body) in requests {
            let refused = raw.call(opcode, ROOT, &body).await.unwrap_err();
            let expected = [libc::EINVAL, libc::ENAMETOOLONG];
            assert!(expected.contains(&refused), "{opcode:?} {name:?}: {refused}");
        }
    }
    let names = |path| std::fs::read_dir(path).unwrap().count();
    assert_eq!((names(outer.path()), names(&outer.path().join("share"))), (2, 1));
}

#[tokio::test]
async fn lengths_that_disagree_with_what_came_are_refused() {
    let raw = Raw::new(model()).await;
    let mut longer = request(Opcode::GetAttr as u32, 9, ROOT, 0, &[0; 16]);
    longer[0] += 1;
    let reply = raw.bytes(longer).await;
    assert_eq!(i32::from_le_bytes(reply[4..8].try_into().unwrap()), -libc::EINVAL);
    assert_eq!(raw.call(Opcode::GetAttr, ROOT, &[0; 15]).await, Err(libc::EINVAL));
    assert_eq!(raw.call(Opcode::GetAttr, ROOT, &[0; 17]).await, Err(libc::EINVAL));
    assert_eq!(raw.call(Opcode::Lookup, ROOT, b"no end").await, Err(libc::EINVAL));
    let short = vec![0; 39];
    assert_eq!(raw.bytes(short).await, Vec::<u8>::new());
    let f = raw.lookup(ROOT, b"f").await.unwrap();
    let handle = raw.open(f, 2).await.unwrap();
    let claims_more = [&handle.to_le_bytes()[..], &[0; 8], &u32s(&[9, 0, 0, 0, 0, 0]), b"1234"];
    assert_eq!(raw.call(Opcode::Write, f, &claims_more.concat()).await, Err(libc::EINVAL));
}

#[tokio::test]
async fn a_reply_that_has_no_room_is_refused_before_anything_is_counted() {
    let raw = Raw::new(model()).await;
    let lookup = || request(Opcode::Lookup as u32, 7, ROOT, 0, &z(b"f"));
    for capacity in [0, 15, 16, 16 + 127] {
        let mut room = Writable::with_capacity(capacity);
        let length = raw.server.handle(Readable::from(lookup()), &mut room).await;
        assert!(length <= 16);
    }
    assert_eq!(raw.server.file_system().held().nodes, 1);
}

#[tokio::test]
async fn forgetting_more_than_was_looked_up_neither_underflows_nor_frees_others() {
    let raw = Raw::new(model()).await;
    let f = raw.lookup(ROOT, b"f").await.unwrap();
    raw.forget(f, u64::MAX).await;
    raw.forget(f, 1).await;
    raw.forget(ROOT, u64::MAX).await;
    raw.forget(4711, 3).await;
    raw.call(Opcode::GetAttr, ROOT, &[0; 16]).await.unwrap();
    let f = raw.lookup(ROOT, b"f").await.unwrap();
    raw.lookup(ROOT, b"f").await.unwrap();
    let batch = [
        &u32s(&[2, 0])[..],
        &f.to_le_bytes(),
        &1_u64.to_le_bytes(),
        &99_u64.to_le_bytes(),
        &1_u64.to_le_bytes(),
    ]
    .concat();
    let batch = request(Opcode::BatchForget as u32, 0, 0, 0, &batch);
    assert!(raw.bytes(batch).await.is_empty());
    assert_eq!(raw.server.file_system().held().nodes, 2);
    raw.forget(f, 1).await;
    assert_eq!(raw.server.file_system().held().nodes, 1);
}

#[tokio::test]
async fn a_read_only_mount_refuses_raw_changes_of_every_kind() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("f"), "x").unwrap();
    let options = HostDirOptions::new(directory.path(), Access::ReadOnly);
    let raw = Raw::new(HostDir::new(options, &Observer::log()).unwrap()).await;
    let f = raw.lookup(ROOT, b"f").await.unwrap();
    let handle = raw.open(f, 0).await.unwrap();
    for flags in [1, 2, 0o1000, 0o1001] {
        assert_eq!(raw.open(f, flags).await, Err(libc::EROFS));
    }
    assert_eq!(raw.write(f, handle, 0, b"y").await, Err(libc::EROFS));
    assert_eq!(raw.create(ROOT, b"g").await, Err(libc::EROFS));
    assert_eq!(raw.mkdir(ROOT, b"g").await, Err(libc::EROFS));
    assert_eq!(raw.link(f, ROOT, b"g").await, Err(libc::EROFS));
    assert_eq!(raw.rename((ROOT, b"f"), (ROOT, b"g"), 0).await, Err(libc::EROFS));
    let others = [
        (Opcode::Unlink, z(b"f")),
        (Opcode::RmDir, z(b"f")),
        (Opcode::Symlink, [z(b"g"), z(b"t")].concat()),
        (Opcode::MkNod, [u32s(&[0o100_644, 0, 0, 0]), z(b"g")].concat()),
        (Opcode::SetAttr, [u32s(&[1, 0]), vec![0; 80]].concat()),
        (Opcode::SetXattr, [u32s(&[1, 0]), z(b"user.a"), b"b".to_vec()].concat()),
        (Opcode::RemoveXattr, z(b"user.a")),
        (Opcode::TmpFile, [u32s(&[2, 0o644, 0, 0]), z(b"/")].concat()),
        (
            Opcode::FAllocate,
            [&handle.to_le_bytes()[..], &[0; 8], &1_u64.to_le_bytes(), &[0; 8]].concat(),
        ),
    ];
    for (opcode, body) in others {
        let node = if matches!(opcode, Opcode::SetAttr | Opcode::FAllocate) { f } else { ROOT };
        assert_eq!(raw.call(opcode, node, &body).await, Err(libc::EROFS), "{opcode:?}");
    }
    let zero = 0_u64.to_le_bytes();
    let copy =
        [handle.to_le_bytes(), zero, f.to_le_bytes(), handle.to_le_bytes(), zero, zero, zero];
    assert_eq!(raw.call(Opcode::CopyFileRange, f, &copy.concat()).await, Err(libc::EROFS));
    assert_eq!(raw.read(f, handle, 0, 10).await.unwrap(), b"x");
}

/// A callback that never answers, beside others that do.
struct Stuck(Model);

impl Callbacks for Stuck {
    fn features(&self) -> Features {
        Features::ALL
    }
    async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        if path.as_bytes().starts_with(b"/stuck") {
            std::future::pending::<()>().await;
        }
        self.0.stat(path).await
    }
    async fn list(&self, path: &FilePath) -> Result<Vec<DirectoryEntry>, Errno> {
        self.0.list(path).await
    }
    async fn read(&self, path: &FilePath, offset: u64, length: usize) -> Result<Bytes, Errno> {
        self.0.read(path, offset, length).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_never_answers_ends_at_its_deadline_and_delays_nobody() {
    let model = Model::new(Features::ALL);
    model.put("/f", b"x");
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let observer = Observer::new(move |event| heard.lock().unwrap().push(event));
    let options = CallbackOptions { deadline: Duration::from_secs(5), ..Default::default() };
    let fs = CallbackFs::new(Stuck(model), options, observer.clone());
    let limits = Limits { slots: 2, ..Limits::default() };
    let raw = Arc::new(Raw::with(fs, limits, observer).await);
    let stuck = tokio::spawn({
        let raw = Arc::clone(&raw);
        async move { raw.lookup(ROOT, b"stuck").await }
    });
    tokio::task::yield_now().await;
    for _ in 0..100 {
        raw.lookup(ROOT, b"f").await.unwrap();
    }
    assert!(!stuck.is_finished());
    assert_eq!(stuck.await.unwrap(), Err(libc::EIO));
    let deadline = Event::Deadline { request: "Lookup", after: Duration::from_secs(5) };
    assert_eq!(*events.lock().unwrap(), [deadline]);
    // Both slots taken by stuck ones: a third waits, and ends in time too.
    let all = [b"stuck1", b"stuck2", b"stuck3"].map(|name| {
        let raw = Arc::clone(&raw);
        tokio::spawn(async move { raw.lookup(ROOT, name).await })
    });
    for one in all {
        assert_eq!(one.await.unwrap(), Err(libc::EIO));
    }
    raw.lookup(ROOT, b"f").await.unwrap();
}

/// Requests that are nearly right: a valid opcode, a plausible node, handles and names, mutated.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (0_u64..5).prop_map(|n| n.to_le_bytes().to_vec()),
        any::<u64>().prop_map(|n| n.to_le_bytes().to_vec()),
        (0_u32..70_000).prop_map(|n| n.to_le_bytes().to_vec()),
        Just(u32s(&[0o100_644])),
        Just(z(b"f")),
        Just(z(b"d")),
        Just(z(b"user.x")),
        Just(z(b"..")),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let body = proptest::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat());
    // Without FALLOCATE: a plausible one may fill this machine's disk.
    let opcode = prop_oneof![9 => 1_u32..53, 1 => any::<u32>()]
        .prop_filter("may fill the disk", |opcode| *opcode != Opcode::FAllocate as u32);
    let node = prop_oneof![9 => 0_u64..6, 1 => any::<u64>()];
    (opcode, node, body, any::<u16>()).prop_map(|(opcode, node, body, cut)| {
        let mut bytes = request(opcode, 7, node, 0, &body);
        if cut % 16 == 0 {
            bytes.truncate(cut as usize % (bytes.len() + 1));
        }
        bytes
    })
}

fn run(requests: &[Vec<u8>], paused: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .unwrap();
    runtime.block_on(async {
        let outer = tempfile::tempdir().unwrap();
        let share = outer.path().join("share");
        std::fs::create_dir(&share).unwrap();
        std::fs::write(outer.path().join("outside"), "untouched").unwrap();
        let on_host = Raw::new(host_dir(&share)).await;
        let on_model = Raw::new(model()).await;
        for request in requests {
            for reply in
                [on_host.bytes(request.clone()).await, on_model.bytes(request.clone()).await]
            {
                if !reply.is_empty() {
                    assert_eq!(
                        u32::from_le_bytes(reply[..4].try_into().unwrap()) as usize,
                        reply.len()
                    );
                    assert_eq!(u64_at(&reply, 8), u64_at(request, 8));
                }
            }
        }
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2);
        assert_eq!(std::fs::read(outer.path().join("outside")).unwrap(), b"untouched");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_bring_the_server_down(
        requests in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..10)
    ) {
        run(&requests, true);
    }

    #[test]
    fn mutated_requests_never_bring_the_server_down_nor_leave_the_share(
        requests in proptest::collection::vec(plausible(), 1..60)
    ) {
        run(&requests, true);
    }
}

#[test]
fn kinds_of_files_are_told_as_readdir_tells_them() {
    assert_eq!(Kind::Directory.dirent_type(), u32::from(libc::DT_DIR));
    assert_eq!(Kind::Socket.dirent_type(), u32::from(libc::DT_SOCK));
}
