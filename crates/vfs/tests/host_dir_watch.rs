//! Following what the host changes in a source, and nothing of what the guest does.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::{ROOT, Raw};
use tempfile::TempDir;
use vfs::fuse::Limits;
use vfs::host_dir::{Access, HostDir, HostDirOptions, HostWatcher};
use vfs::{Event, Observer};

struct Followed {
    raw: Raw<HostDir>,
    told: Arc<Mutex<Vec<String>>>,
    source: TempDir,
    watcher: HostWatcher,
}

impl Followed {
    async fn new(masked: &[&str]) -> Self {
        let source = TempDir::new().unwrap();
        fs::create_dir_all(source.path().join("masked/in")).unwrap();
        fs::write(source.path().join("sign"), "").unwrap();
        let mut options = HostDirOptions::new(source.path(), Access::ReadWrite);
        options.mask.paths = masked.iter().map(Into::into).collect();
        let raw = Raw::with(
            HostDir::new(options, &Observer::log()).unwrap(),
            Limits::default(),
            Observer::log(),
        )
        .await;
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&told);
        let observer = Observer::new(move |event| {
            let text = match event {
                Event::Changed { path } => String::from_utf8(path).unwrap(),
                other => format!("{other:?}"),
            };
            heard.lock().unwrap().push(text);
        });
        let watcher = HostWatcher::start(raw.server.file_system(), observer, || {}).unwrap();
        let followed = Self { raw, told, source, watcher };
        followed.settle().await;
        followed.told.lock().unwrap().clear();
        followed
    }

    /// Until all that happened before is told.
    async fn settle(&self) {
        self.told.lock().unwrap().retain(|path| path != "/sign");
        for number in 0..3000 {
            fs::write(self.source.path().join("sign"), number.to_string()).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.told.lock().unwrap().iter().any(|path| path == "/sign") {
                return;
            }
        }
        panic!("nothing is told");
    }

    fn told(&self) -> Vec<String> {
        let mut told = self.told.lock().unwrap().clone();
        told.retain(|path| path != "/sign");
        told.sort();
        told.dedup();
        told
    }
}

#[tokio::test]
async fn what_the_guest_does_is_not_told() {
    let followed = Followed::new(&[]).await;
    let raw = &followed.raw;
    let directory = raw.mkdir(ROOT, b"made").await.unwrap();
    for number in 0..50 {
        let name = format!("file-{number}");
        let (file, handle) = raw.create(directory, name.as_bytes()).await.unwrap();
        raw.write(file, handle, 0, b"content").await.unwrap();
        raw.release(file, handle).await.unwrap();
    }
    followed.settle().await;
    raw.rename((ROOT, b"made"), (ROOT, b"moved"), 0).await.unwrap();
    followed.settle().await;
    raw.rename((directory, b"file-0"), (ROOT, b"out"), 0).await.unwrap();
    followed.settle().await;
    assert_eq!(followed.told(), [""; 0]);
    // The host's next change of the same file is.
    fs::write(followed.source.path().join("moved/file-1"), "the host's").unwrap();
    followed.settle().await;
    assert_eq!(followed.told(), ["/moved/file-1"]);
}

#[tokio::test]
async fn what_the_host_does_is_told_wherever_it_is() {
    let followed = Followed::new(&["masked"]).await;
    let path = |name: &str| followed.source.path().join(name);
    fs::write(path("masked/in/hidden"), "").unwrap();
    fs::create_dir_all(path("a/b/c")).unwrap();
    fs::write(path("a/b/c/file"), "").unwrap();
    std::os::unix::fs::symlink("/tmp", path("a/link")).unwrap();
    followed.settle().await;
    let told = followed.told();
    for wanted in ["/", "/a", "/a/b", "/a/b/c", "/a/b/c/file", "/a/link"] {
        assert!(told.iter().any(|path| path == wanted), "{wanted} is not in {told:?}");
    }
    assert!(!told.iter().any(|path| path.contains("masked")), "{told:?}");

    followed.told.lock().unwrap().clear();
    fs::rename(path("a/b"), path("a/d")).unwrap();
    fs::remove_file(path("a/d/c/file")).unwrap();
    fs::write(path("a/d/c/other"), "").unwrap();
    followed.settle().await;
    let told = followed.told();
    for wanted in ["/a", "/a/b", "/a/d", "/a/d/c", "/a/d/c/other"] {
        assert!(told.iter().any(|path| path == wanted), "{wanted} is not in {told:?}");
    }
}

#[tokio::test]
async fn the_thread_ends_with_its_watcher() {
    let followed = Followed::new(&[]).await;
    let threads = || {
        let all = fs::read_dir("/proc/self/task").unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        all.flatten().filter_map(name).filter(|name| name.trim() == "mount-watch").count()
    };
    let before = threads();
    assert!(before > 0);
    drop(followed.watcher);
    for _ in 0..3000 {
        if threads() < before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the thread stays");
}
