//! Directories of the host in the guest, and what changes in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use protocol::ErrorCode;
use protocol::v1;

use crate::client::{Helper, assert_code, detail, soon, until};
use crate::file_client::{problems, watch};
use crate::file_requests::{EROFS, Kernel, ROOT};
use crate::guest::Script;

fn bind(target: &str, source: &Path) -> v1::Mount {
    let source = source.to_str().unwrap().to_owned();
    let bind = v1::BindMount { source, ..v1::BindMount::default() };
    let source = Some(v1::mount::Source::Bind(bind));
    v1::Mount { target: target.to_owned(), source, ..v1::Mount::default() }
}

async fn booted(script: Script, mounts: Vec<v1::Mount>) -> Helper {
    let mut helper = Helper::start(script).await;
    let mut request = helper.files.request();
    request.mounts = mounts;
    soon(helper.sandbox.boot(request)).await.unwrap();
    helper
}

#[tokio::test]
async fn guest_is_told_of_its_mounts_parents_first() {
    let folder = tempfile::tempdir().unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut script = Script::default();
    let (configure, told) = (script.configure.clone(), seen.clone());
    script.configure = std::sync::Arc::new(move |request| {
        *told.lock().unwrap() = request.mounts.clone();
        configure(request)
    });
    let mut read_only = bind("/work", folder.path());
    read_only.read_only = true;
    booted(script, vec![bind("/work/in", folder.path()), read_only]).await;
    let seen = seen.lock().unwrap();
    let told: Vec<_> =
        seen.iter().map(|m| (m.tag.as_str(), m.target.as_str(), m.read_only)).collect();
    assert_eq!(told, [("mount0", "/work", true), ("mount1", "/work/in", false)]);
}

#[tokio::test]
async fn read_only_is_enforced_here_and_writable_writes() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), "content").unwrap();
    let mut read_only = bind("/ro", folder.path());
    read_only.read_only = true;
    let helper = booted(Script::default(), vec![read_only, bind("/rw", folder.path())]).await;
    let kernel = Kernel::of(&helper, 0).await;
    let file = kernel.lookup(ROOT, "f").await.unwrap();
    let handle = kernel.open(file, 0).await.unwrap();
    assert_eq!(kernel.read(file, handle, 100).await.unwrap(), b"content");
    assert_eq!(kernel.open(file, 2).await, Err(EROFS));
    assert_eq!(kernel.write(file, handle, b"x").await, Err(EROFS));
    assert_eq!(kernel.put("new", b"x").await, Err(EROFS));
    let kernel = Kernel::of(&helper, 1).await;
    kernel.put("new", b"written").await.unwrap();
    assert_eq!(fs::read(folder.path().join("new")).unwrap(), b"written");
}

#[tokio::test]
async fn source_that_cannot_be_used_is_named_with_its_option() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let mut nested = bind("/a", folder.path());
    if let Some(v1::mount::Source::Bind(bind)) = &mut nested.source {
        bind.mask_paths.push("x".to_owned());
        bind.mask_storage = folder.path().join("store").to_str().unwrap().to_owned();
    }
    for (mount, option, path) in [
        (bind("/a", &folder.path().join("missing")), "mounts.bind.source", "missing"),
        (bind("/a", &folder.path().join("file")), "mounts.bind.source", "file"),
        (bind("/a", Path::new("/proc/self")), "mounts.bind.source", "/proc/self"),
        (nested, "mounts.bind.mask_storage", "store"),
    ] {
        let mut helper = Helper::start(Script::default()).await;
        let mut request = helper.files.request();
        request.mounts = vec![mount];
        let error = detail(soon(helper.sandbox.boot(request)).await);
        assert_code(&error, ErrorCode::InvalidArgument);
        assert!(error.message.contains(option) && error.message.contains(path), "{error:?}");
        assert_eq!(helper.engine.alive(), 0);
    }
}

#[tokio::test]
async fn host_changes_are_announced_and_the_guests_own_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("deep")).unwrap();
    fs::write(path("deep/old"), "1").unwrap();
    let script = Script::default();
    let seen = script.seen.clone();
    let mut helper = Helper::start(script).await;
    let events = watch(&helper);
    let mut request = helper.files.request();
    request.mounts = vec![bind("/work", folder.path())];
    soon(helper.sandbox.boot(request)).await.unwrap();
    let kernel = Kernel::of(&helper, 0).await;
    let told = |wanted: &str| {
        let announced = seen.announced.lock().unwrap();
        announced.iter().flat_map(|request| &request.paths).any(|path| path == wanted.as_bytes())
    };
    // The watcher comes up beside the boot: its first sign is what says that it is there.
    let mut number = 0;
    until("the host's directory is followed", || {
        number += 1;
        fs::write(path("deep/old"), number.to_string()).unwrap();
        told("/deep/old")
    })
    .await;
    kernel.put("own", b"the guest's").await.unwrap();
    // The guest's change is older than this one: when this was told, that would have been, too.
    tokio::time::sleep(Duration::from_millis(50)).await;
    fs::create_dir_all(path("new/below")).unwrap();
    fs::write(path("new/below/file"), "x").unwrap();
    until("what is in a new directory", || told("/new/below/file")).await;
    fs::remove_file(path("deep/old")).unwrap();
    until("a directory that lost a name", || told("/deep")).await;
    fs::rename(path("new"), path("moved")).unwrap();
    fs::write(path("moved/below/again"), "x").unwrap();
    until("what is in a directory that was moved", || told("/moved/below/again")).await;
    fs::write(path("own"), "the host's").unwrap();
    until("a change of the guest's file", || told("/own")).await;
    let announced = seen.announced.lock().unwrap().clone();
    let first = announced.iter().flat_map(|request| &request.paths).filter(|path| *path == "/own");
    assert_eq!(first.count(), 1, "{announced:?}");
    assert_eq!(problems(&helper, events).await, []);
}

#[tokio::test]
async fn announcing_changes_nothing_and_works_on_a_read_only_mount() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    fs::write(&file, "1").unwrap();
    let script = Script::default();
    let seen = script.seen.clone();
    let mut read_only = bind("/work", folder.path());
    read_only.read_only = true;
    let helper = booted(script, vec![read_only]).await;
    until("the host's directory is followed", || {
        fs::write(&file, "2").unwrap();
        !seen.announced.lock().unwrap().is_empty()
    })
    .await;
    let mark = seen.announced.lock().unwrap()[0].clone();
    let kernel = Kernel::of(&helper, 0).await;
    let node = kernel.lookup(ROOT, "f").await.unwrap();
    let times =
        || fs::metadata(&file).map(|found| (found.mtime(), found.mtime_nsec(), found.ctime_nsec()));
    let before = times().unwrap();
    kernel.set_modified(node, mark.mark_seconds, mark.mark_nanos).await.unwrap();
    assert_eq!(times().unwrap(), before);
    let other = kernel.set_modified(node, mark.mark_seconds + 1, mark.mark_nanos).await;
    assert_eq!(other, Err(EROFS));
}
