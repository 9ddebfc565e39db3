//! A guest that writes raw requests to a host directory, with the host changing it at the worst
//! moment.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::raw::{ROOT, Raw, u32s, u64_at, z};
use tempfile::TempDir;
use vfs::Observer;
use vfs::fuse::Opcode;
use vfs::host_dir::{Access, HostDir, HostDirError, HostDirOptions, Mask};

struct Share {
    outer: TempDir,
    raw: Raw<HostDir>,
}

impl Share {
    /// `outer/share` is served; `outer/secret` and `outer/dir/secret` are what must not be seen.
    async fn new(
        fill: impl FnOnce(&Path),
        change: impl FnOnce(&mut HostDirOptions, &Path),
    ) -> Self {
        let outer = tempfile::tempdir().unwrap();
        let share = outer.path().join("share");
        fs::create_dir(&share).unwrap();
        fs::create_dir(outer.path().join("dir")).unwrap();
        fs::write(outer.path().join("secret"), "SECRET").unwrap();
        fs::write(outer.path().join("dir/secret"), "SECRET").unwrap();
        fill(&share);
        let mut options = HostDirOptions::new(&share, Access::ReadWrite);
        change(&mut options, outer.path());
        let fs = HostDir::new(options, &Observer::log()).unwrap();
        let raw = Raw::new(fs).await;
        Self { outer, raw }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.outer.path().join("share").join(name)
    }
}

#[tokio::test]
async fn symlinks_are_objects_and_never_ways() {
    let share = Share::new(
        |path| {
            symlink("../secret", path.join("file")).unwrap();
            symlink("../dir", path.join("dir")).unwrap();
            symlink("/proc/self/root", path.join("magic")).unwrap();
            symlink("/proc/self/fd", path.join("fds")).unwrap();
        },
        |_, _| {},
    )
    .await;
    for name in [&b"file"[..], b"dir", b"magic", b"fds"] {
        let link = share.raw.lookup(ROOT, name).await.unwrap();
        assert_eq!(share.raw.open(link, 0).await, Err(libc::ELOOP));
        assert_eq!(share.raw.open(link, 0o1001).await, Err(libc::ELOOP));
        assert_eq!(share.raw.lookup(link, b"secret").await, Err(libc::ENOTDIR));
        assert_eq!(share.raw.create(link, b"new").await, Err(libc::ENOTDIR));
        assert_eq!(share.raw.call(Opcode::OpenDir, link, &[0; 8]).await, Err(libc::ENOTDIR));
        let truncate = [u32s(&[8, 0]), vec![0; 80]].concat();
        assert_eq!(share.raw.call(Opcode::SetAttr, link, &truncate).await, Err(libc::EINVAL));
        // Creating over it must not follow it either.
        assert!(share.raw.create(ROOT, name).await.is_err());
    }
    assert_eq!(fs::read(share.outer.path().join("secret")).unwrap(), b"SECRET");
    // Mode and times of a link are the link's, never its target's.
    let before = fs::metadata(share.outer.path().join("secret")).unwrap();
    let link = share.raw.lookup(ROOT, b"file").await.unwrap();
    let times = [u32s(&[1 << 4 | 1 << 5, 0]), vec![0; 80]].concat();
    share.raw.call(Opcode::SetAttr, link, &times).await.unwrap();
    let after = fs::metadata(share.outer.path().join("secret")).unwrap();
    assert_eq!((before.mtime(), before.mode()), (after.mtime(), after.mode()));
    assert_eq!(fs::symlink_metadata(share.path("file")).unwrap().mtime(), 0);
}

#[tokio::test]
async fn a_directory_swapped_for_a_symlink_in_a_race_leads_nowhere() {
    let share = Share::new(
        |path| {
            fs::create_dir(path.join("d")).unwrap();
            fs::write(path.join("d/secret"), "plain").unwrap();
            symlink("../dir", path.join("l")).unwrap();
        },
        |_, _| {},
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let (d, l) = (share.path("d"), share.path("l"));
    let swapping = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let cwd = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(cwd, &d, cwd, &l, flags).unwrap();
            }
        }
    });
    let mut seen = 0;
    for _ in 0..3000 {
        let Ok(directory) = share.raw.lookup(ROOT, b"d").await else { continue };
        if let Ok(file) = share.raw.lookup(directory, b"secret").await {
            let handle = share.raw.open(file, 0).await.unwrap();
            assert_eq!(share.raw.read(file, handle, 0, 100).await.unwrap(), b"plain");
            share.raw.release(file, handle).await.unwrap();
            share.raw.forget(file, 1).await;
            seen += 1;
        }
        if let Ok((file, handle)) = share.raw.create(directory, b"new").await {
            share.raw.release(file, handle).await.unwrap();
            share.raw.forget(file, 1).await;
            let _ = share.raw.call(Opcode::Unlink, directory, &z(b"new")).await;
        }
        share.raw.forget(directory, 1).await;
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert!(seen > 0, "the race was never won by the plain directory");
    assert!(!share.outer.path().join("dir/new").exists());
}

#[tokio::test]
async fn inodes_and_handles_that_were_never_given_out_are_refused() {
    let share = Share::new(|path| fs::write(path.join("f"), "x").unwrap(), |_, _| {}).await;
    let file = share.raw.lookup(ROOT, b"f").await.unwrap();
    let handle = share.raw.open(file, 0).await.unwrap();
    assert_eq!(share.raw.lookup(999, b"f").await, Err(libc::ESTALE));
    assert_eq!(share.raw.read(file, handle + 1, 0, 10).await, Err(libc::EBADF));
    assert_eq!(share.raw.read(ROOT, handle, 0, 10).await, Err(libc::EBADF));
    assert_eq!(share.raw.write(file, handle, 0, b"y").await, Err(libc::EBADF));
    assert_eq!(share.raw.lookup(file, b"f").await, Err(libc::ENOTDIR));
    assert_eq!(share.raw.names(file).await, Err(libc::ENOTDIR));
}

#[tokio::test]
async fn devices_are_never_made_and_set_id_bits_only_when_asked_for() {
    let share = Share::new(|_| {}, |_, _| {}).await;
    for mode in [0o020_644, 0o060_644] {
        let body = [u32s(&[mode, 0x0103, 0, 0]), z(b"null")].concat();
        assert_eq!(share.raw.call(Opcode::MkNod, ROOT, &body).await, Err(libc::EPERM));
    }
    let body = [u32s(&[0o102, 0o4755, 0, 0]), z(b"suid")].concat();
    assert_eq!(share.raw.call(Opcode::Create, ROOT, &body).await, Err(libc::EPERM));
    let (file, _) = share.raw.create(ROOT, b"f").await.unwrap();
    let mut chmod = u32s(&[1, 0]);
    chmod.resize(68, 0);
    chmod.extend_from_slice(&u32s(&[0o4755, 0, 0, 0, 0]));
    assert_eq!(share.raw.call(Opcode::SetAttr, file, &chmod).await, Err(libc::EPERM));
    fs::set_permissions(share.path("f"), fs::Permissions::from_mode(0o4755)).unwrap();
    let attr = share.raw.call(Opcode::GetAttr, file, &[0; 16]).await.unwrap();
    let mode = u32::from_le_bytes(attr[16 + 60..16 + 64].try_into().unwrap());
    assert_eq!(mode, 0o100_755);

    let share = Share::new(|_| {}, |options, _| options.set_id = true).await;
    let (file, _) = share.raw.create(ROOT, b"f").await.unwrap();
    share.raw.call(Opcode::SetAttr, file, &chmod).await.unwrap();
    assert_eq!(fs::metadata(share.path("f")).unwrap().mode() & 0o7777, 0o4755);
}

#[tokio::test]
async fn what_guest_root_makes_belongs_to_this_user_and_others_keep_their_numbers() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let mut share = Share::new(|_| {}, |_, _| {}).await;
    share.raw.create(ROOT, b"root").await.unwrap();
    share.raw.uid = 1234;
    share.raw.create(ROOT, b"other").await.unwrap();
    share.raw.mkdir(ROOT, b"dir").await.unwrap();
    let uid = |name: &str| fs::metadata(share.path(name)).unwrap().uid();
    assert_eq!((uid("root"), uid("other"), uid("dir")), (0, 1234, 1234));
}

#[tokio::test]
async fn attributes_that_give_rights_on_the_host_are_out_of_reach() {
    let share = Share::new(|path| fs::write(path.join("f"), "x").unwrap(), |_, _| {}).await;
    let file = share.raw.lookup(ROOT, b"f").await.unwrap();
    for name in [&b"security.capability"[..], b"security.selinux", b"system.posix_acl_access"] {
        let body = [u32s(&[4, 0]), z(name), b"data".to_vec()].concat();
        assert_eq!(share.raw.call(Opcode::SetXattr, file, &body).await, Err(libc::EOPNOTSUPP));
        let body = [u32s(&[64, 0]), z(name)].concat();
        assert_eq!(share.raw.call(Opcode::GetXattr, file, &body).await, Err(libc::EOPNOTSUPP));
    }
    let body = [u32s(&[5, 0]), z(b"user.k"), b"value".to_vec()].concat();
    share.raw.call(Opcode::SetXattr, file, &body).await.unwrap();
    let get = |size| [u32s(&[size, 0]), z(b"user.k")].concat();
    let value = share.raw.call(Opcode::GetXattr, file, &get(64)).await.unwrap();
    assert_eq!(value, b"value");
    assert_eq!(share.raw.call(Opcode::GetXattr, file, &get(4)).await, Err(libc::ERANGE));
    let size = share.raw.call(Opcode::GetXattr, file, &get(0)).await.unwrap();
    assert_eq!(size[..4], 5_u32.to_le_bytes());
    let list = share.raw.call(Opcode::ListXattr, file, &u32s(&[64, 0])).await.unwrap();
    assert_eq!(list, b"user.k\0");
}

fn masked(paths: &[&str], storage: bool) -> impl FnOnce(&mut HostDirOptions, &Path) {
    let paths = paths.iter().map(Into::into).collect();
    move |options, outer| {
        let storage = storage.then(|| outer.join("storage"));
        options.mask = Mask { paths, storage };
    }
}

fn fill_masked(path: &Path) {
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("a/b/hidden"), "HIDDEN").unwrap();
    fs::write(path.join("a/b/plain"), "plain").unwrap();
    fs::write(path.join("plain"), "plain").unwrap();
    fs::create_dir(path.join("empty")).unwrap();
}

#[tokio::test]
async fn masked_paths_are_absent_through_every_request() {
    let share = Share::new(fill_masked, masked(&["a/b/hidden"], false)).await;
    let raw = &share.raw;
    let (a, b) = (raw.walk("a").await.unwrap(), raw.walk("a/b").await.unwrap());
    let plain = raw.walk("plain").await.unwrap();
    assert_eq!(raw.lookup(b, b"hidden").await, Err(libc::ENOENT));
    assert_eq!(raw.names(b).await.unwrap(), [b"plain"]);
    assert_eq!(raw.create(b, b"hidden").await, Err(libc::EACCES));
    assert_eq!(raw.mkdir(b, b"hidden").await, Err(libc::EACCES));
    assert_eq!(raw.link(plain, b, b"hidden").await, Err(libc::EACCES));
    assert_eq!(raw.rename((ROOT, b"plain"), (b, b"hidden"), 0).await, Err(libc::EACCES));
    assert_eq!(raw.rename((b, b"hidden"), (ROOT, b"seen"), 0).await, Err(libc::ENOENT));
    assert_eq!(raw.rename((ROOT, b"plain"), (b, b"hidden"), 2).await, Err(libc::EACCES));
    assert_eq!(raw.call(Opcode::Unlink, b, &z(b"hidden")).await, Err(libc::ENOENT));
    // A directory on the way, moved, would show it under another name.
    for flags in [0, 1] {
        assert_eq!(raw.rename((ROOT, b"a"), (ROOT, b"c"), flags).await, Err(libc::EBUSY));
        assert_eq!(raw.rename((a, b"b"), (ROOT, b"c"), flags).await, Err(libc::EBUSY));
    }
    assert_eq!(raw.rename((ROOT, b"empty"), (a, b"b"), 2).await, Err(libc::EBUSY));
    assert_eq!(raw.rename((a, b"b"), (ROOT, b"empty"), 2).await, Err(libc::EBUSY));
    assert_eq!(fs::read(share.path("a/b/hidden")).unwrap(), b"HIDDEN");
    // Also when the host moves it while the guest knows it.
    fs::rename(share.path("a/b"), share.path("moved")).unwrap();
    let moved = raw.lookup(ROOT, b"moved").await.unwrap();
    assert_eq!(raw.lookup(moved, b"hidden").await, Err(libc::ENOENT));
}

#[tokio::test]
async fn masked_paths_with_a_storage_lead_there_and_leave_the_source_alone() {
    let share = Share::new(fill_masked, masked(&["a/b/hidden", "node_modules"], true)).await;
    let raw = &share.raw;
    let storage = share.outer.path().join("storage");
    let b = raw.walk("a/b").await.unwrap();
    assert_eq!(raw.lookup(b, b"hidden").await, Err(libc::ENOENT));
    let (file, handle) = raw.create(b, b"hidden").await.unwrap();
    raw.write(file, handle, 0, b"mine").await.unwrap();
    assert_eq!(fs::read(storage.join("a/b/hidden")).unwrap(), b"mine");
    assert_eq!(fs::read(share.path("a/b/hidden")).unwrap(), b"HIDDEN");
    let mut names = raw.names(b).await.unwrap();
    names.sort();
    assert_eq!(names, [&b"hidden"[..], b"plain"]);
    let modules = raw.mkdir(ROOT, b"node_modules").await.unwrap();
    raw.create(modules, b"m").await.unwrap();
    assert!(storage.join("node_modules/m").exists() && !share.path("node_modules").exists());
    // Names do not cross between the two.
    let plain = raw.walk("plain").await.unwrap();
    assert_eq!(raw.link(plain, modules, b"l").await, Err(libc::EXDEV));
    assert_eq!(raw.link(file, ROOT, b"l").await, Err(libc::EXDEV));
    assert_eq!(raw.rename((ROOT, b"plain"), (modules, b"p"), 0).await, Err(libc::EXDEV));
    assert_eq!(raw.rename((b, b"hidden"), (ROOT, b"p"), 0).await, Err(libc::EXDEV));
    assert_eq!(raw.rename((b, b"hidden"), (b, b"plain"), 2).await, Err(libc::EXDEV));
    // A directory with an entry in the storage is not empty.
    fs::remove_file(share.path("a/b/hidden")).unwrap();
    raw.call(Opcode::Unlink, b, &z(b"plain")).await.unwrap();
    let a = raw.walk("a").await.unwrap();
    assert_eq!(raw.call(Opcode::RmDir, a, &z(b"b")).await, Err(libc::ENOTEMPTY));
    raw.call(Opcode::Unlink, b, &z(b"hidden")).await.unwrap();
    assert!(!storage.join("a/b/hidden").exists());
    raw.call(Opcode::RmDir, a, &z(b"b")).await.unwrap();
}

#[test]
fn sources_and_storages_that_make_no_sense_are_refused_at_once() {
    let outer = tempfile::tempdir().unwrap();
    let new = |change: &dyn Fn(&mut HostDirOptions)| {
        let mut options = HostDirOptions::new(outer.path(), Access::ReadWrite);
        change(&mut options);
        HostDir::new(options, &Observer::log()).map(drop)
    };
    let missing = new(&|options| options.source = outer.path().join("missing"));
    assert!(matches!(missing, Err(HostDirError::Open { .. })));
    let proc = new(&|options| options.source = "/proc/self".into());
    assert!(matches!(proc, Err(HostDirError::Special { kind: "proc", .. })));
    let nested = new(&|options| {
        options.mask.paths = vec!["a".into()];
        options.mask.storage = Some(outer.path().join("inside"));
    });
    assert!(matches!(nested, Err(HostDirError::Nested { .. })));
    let path = new(&|options| options.mask.paths = vec!["../a".into()]);
    assert!(matches!(path, Err(HostDirError::MaskPath { .. })));
    new(&|_| {}).unwrap();
}

#[tokio::test]
async fn a_mount_below_the_source_is_closed_and_procfs_stays_so() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return;
    }
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    for submounts in [false, true] {
        let share = Share::new(
            |path| {
                fs::create_dir(path.join("tmpfs")).unwrap();
                fs::create_dir(path.join("proc")).unwrap();
            },
            |options, _| options.submounts = submounts,
        )
        .await;
        let make = |kind: &str| {
            let nothing: Option<&str> = None;
            mount(Some(kind), &share.path(kind), Some(kind), MsFlags::empty(), nothing)
        };
        if let Err(error) = make("tmpfs").and_then(|()| make("proc")) {
            eprintln!("SKIPPED: cannot mount: {error}");
            return;
        }
        fs::write(share.path("tmpfs/f"), "x").unwrap();
        let inside = share.raw.walk("tmpfs/f").await;
        let proc = share.raw.lookup(ROOT, b"proc").await;
        for kind in ["tmpfs", "proc"] {
            umount2(&share.path(kind), MntFlags::MNT_DETACH).unwrap();
        }
        assert_eq!(inside.is_ok(), submounts, "{inside:?}");
        assert_eq!(proc, Err(libc::EACCES));
    }
}

#[tokio::test]
async fn a_full_inode_table_refuses_new_names_and_keeps_the_old_ones() {
    let share = Share::new(
        |path| {
            for i in 0..20 {
                fs::write(path.join(format!("f{i}")), "x").unwrap();
            }
        },
        |options, _| options.limits.inodes = 11,
    )
    .await;
    let mut known = Vec::new();
    for i in 0..20 {
        match share.raw.lookup(ROOT, format!("f{i}").as_bytes()).await {
            Ok(node) => known.push(node),
            Err(error) => assert_eq!(error, libc::ENFILE),
        }
    }
    assert_eq!(known.len(), 10);
    for node in known {
        share.raw.open(node, 0).await.unwrap();
        share.raw.forget(node, 1).await;
    }
    share.raw.lookup(ROOT, b"f19").await.unwrap();
}

const READ: u32 = 0;
const WRITE: u32 = 1;
const UNLOCK: u32 = 2;
const ALL: (u64, u64) = (0, i64::MAX as u64);

#[tokio::test]
async fn locks_are_seen_by_other_processes_other_guests_and_the_host() {
    let share =
        Share::new(|path| fs::write(path.join("f"), "0123456789").unwrap(), |_, _| {}).await;
    let options = HostDirOptions::new(share.outer.path().join("share"), Access::ReadWrite);
    let other = Raw::new(HostDir::new(options, &Observer::log()).unwrap()).await;
    let file = share.raw.lookup(ROOT, b"f").await.unwrap();
    let (one, two) =
        (share.raw.open(file, 2).await.unwrap(), share.raw.open(file, 2).await.unwrap());
    let theirs = other.lookup(ROOT, b"f").await.unwrap();
    let their = other.open(theirs, 2).await.unwrap();
    // One process with two descriptors does not stand in its own way; another process does.
    share.raw.lock((file, one), 7, (WRITE, false), (0, 4), false).await.unwrap();
    share.raw.lock((file, two), 7, (WRITE, false), (0, 4), false).await.unwrap();
    let refused = share.raw.lock((file, one), 8, (READ, false), (4, 9), false).await;
    assert_eq!(refused, Err(libc::EAGAIN));
    share.raw.lock((file, one), 8, (READ, false), (5, 9), false).await.unwrap();
    let refused = other.lock((theirs, their), 7, (READ, false), ALL, false).await;
    assert_eq!(refused, Err(libc::EAGAIN));
    let test = [
        &their.to_le_bytes()[..],
        &7_u64.to_le_bytes(),
        &0_u64.to_le_bytes(),
        &ALL.1.to_le_bytes(),
        &u32s(&[READ, 0, 0, 0]),
    ]
    .concat();
    let found = other.call(Opcode::GetLk, theirs, &test).await.unwrap();
    assert_eq!((u64_at(&found, 0), u64_at(&found, 8), found[16]), (0, 4, 1));
    // Closing any descriptor ends the process' locks, and only its own.
    share.raw.flush(file, two, 7).await.unwrap();
    other.lock((theirs, their), 7, (WRITE, false), (0, 4), false).await.unwrap();
    let refused = other.lock((theirs, their), 7, (WRITE, false), (5, 5), false).await;
    assert_eq!(refused, Err(libc::EAGAIN));
    share.raw.lock((file, one), 8, (UNLOCK, false), ALL, false).await.unwrap();
    other.lock((theirs, their), 7, (WRITE, false), (5, 5), false).await.unwrap();
    // flock is the open file's, and ends with it.
    share.raw.lock((file, one), 1, (WRITE, true), ALL, false).await.unwrap();
    assert_eq!(share.raw.lock((file, two), 1, (READ, true), ALL, false).await, Err(libc::EAGAIN));
    assert_eq!(other.lock((theirs, their), 1, (READ, true), ALL, false).await, Err(libc::EAGAIN));
    share.raw.release(file, one).await.unwrap();
    other.lock((theirs, their), 1, (WRITE, true), ALL, false).await.unwrap();
}

#[tokio::test]
async fn a_wait_for_a_lock_ends_by_the_lock_by_an_interrupt_or_by_its_limit() {
    let share = Share::new(|path| fs::write(path.join("f"), "x").unwrap(), |_, _| {}).await;
    for (lock_wait, interrupts) in [(Duration::from_millis(200), false), (HOUR, true)] {
        let options = HostDirOptions::new(share.outer.path().join("share"), Access::ReadWrite);
        let fs = HostDir::new(options, &Observer::log()).unwrap();
        let limits = vfs::fuse::Limits { lock_wait, slots: 1, ..Default::default() };
        let raw = Arc::new(Raw::with(fs, limits, Observer::log()).await);
        let file = raw.lookup(ROOT, b"f").await.unwrap();
        let handle = raw.open(file, 2).await.unwrap();
        raw.lock((file, handle), 1, (WRITE, false), ALL, false).await.unwrap();
        let wait = |owner| {
            let raw = Arc::clone(&raw);
            tokio::spawn(
                async move { raw.lock((file, handle), owner, (WRITE, false), ALL, true).await },
            )
        };
        let waiting = wait(2);
        tokio::task::yield_now().await;
        // It holds no slot.
        raw.lookup(ROOT, b"f").await.unwrap();
        raw.lock((file, handle), 1, (UNLOCK, false), ALL, false).await.unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(()));
        let waiting = wait(3);
        tokio::task::yield_now().await;
        // One of the requests so far is the wait.
        for number in if interrupts { 1..20_u64 } else { 0..0 } {
            let body = number.to_le_bytes();
            let request = common::raw::request(Opcode::Interrupt as u32, 0, 0, 0, &body);
            assert!(raw.bytes(request).await.is_empty());
        }
        let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
        assert_eq!(ended.unwrap(), Err(libc::EINTR));
        raw.flush(file, handle, 2).await.unwrap();
        raw.lock((file, handle), 9, (WRITE, false), ALL, false).await.unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);
