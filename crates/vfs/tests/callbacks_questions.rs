//! How often callbacks are asked for what real programs do: each question is a message to somebody
//! else's process, so they are counted, with a guest that believes nothing.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[macro_use]
mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::Mounted;
use common::model::Model;
use tempfile::TempDir;
use vfs::callbacks::{
    CallbackFs, CallbackOptions, Callbacks, DirectoryEntry, Features, FilePath, FileStat,
};
use vfs::{CacheTimes, Errno, Observer, Time};

/// Long ago: what is that old is believed to be finished.
const OLD: Time = Time { seconds: 1_000_000_000, nanos: 0 };

#[derive(Default)]
struct Asked {
    stats: AtomicUsize,
    lists: AtomicUsize,
    reads: AtomicUsize,
}

impl Asked {
    /// Stats, lists and reads since the last time.
    fn take(&self) -> (usize, usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
        (take(&self.stats), take(&self.lists), take(&self.reads))
    }
}

struct Counting {
    model: Model,
    asked: Arc<Asked>,
}

impl Callbacks for Counting {
    fn features(&self) -> Features {
        Features::NONE
    }

    async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        self.asked.stats.fetch_add(1, Ordering::SeqCst);
        let mut stat = self.model.stat(path).await?;
        stat.modified = Some(OLD);
        Ok(stat)
    }

    async fn list(&self, path: &FilePath) -> Result<Vec<DirectoryEntry>, Errno> {
        self.asked.lists.fetch_add(1, Ordering::SeqCst);
        self.model.list(path).await
    }

    async fn read(&self, path: &FilePath, offset: u64, length: usize) -> Result<Bytes, Errno> {
        self.asked.reads.fetch_add(1, Ordering::SeqCst);
        self.model.read(path, offset, length).await
    }
}

struct Fixture {
    mounted: Mounted<CallbackFs<Counting>>,
    model: Model,
    asked: Arc<Asked>,
    _target: TempDir,
}

fn mount(believed: Duration) -> Fixture {
    let target = TempDir::new().unwrap();
    let model = Model::new(Features::NONE);
    let asked = Arc::<Asked>::default();
    let options = CallbackOptions { cache: CacheTimes::of(believed), ..CallbackOptions::default() };
    let counting = Counting { model: model.clone(), asked: Arc::clone(&asked) };
    let fs = CallbackFs::new(counting, options, Observer::log());
    Fixture { mounted: Mounted::new(fs, target.path()), model, asked, _target: target }
}

#[test]
fn a_sequential_read_by_pages_asks_for_attributes_at_its_ends_only() {
    const SIZE: usize = 8 << 20;
    needs_fuse!();
    let f = mount(Duration::ZERO);
    f.model.put("/f", &vec![7; SIZE]);
    let mut file = fs::File::open(f.mounted.join("f")).unwrap();
    let mut page = [0; 4096];
    let mut length = 0;
    loop {
        match file.read(&mut page).unwrap() {
            0 => break,
            count => length += count,
        }
    }
    assert_eq!(length, SIZE);
    let (stats, lists, reads) = f.asked.take();
    // The lookup, perhaps one of the root, and the read behind the end.
    assert!(stats <= 6, "{stats} stats");
    assert_eq!(lists, 0);
    // 128 KiB of read-ahead, after a few smaller ones.
    assert!(reads <= SIZE / (128 << 10) + 16, "{reads} reads");
}

#[test]
fn what_was_read_before_is_not_read_again_by_the_next_open() {
    needs_fuse!();
    let f = mount(Duration::ZERO);
    f.model.put("/f", &[7; 100_000]);
    assert_eq!(fs::read(f.mounted.join("f")).unwrap().len(), 100_000);
    f.asked.take();
    for _ in 0..10 {
        assert_eq!(fs::read(f.mounted.join("f")).unwrap().len(), 100_000);
    }
    let (stats, _, reads) = f.asked.take();
    assert_eq!(reads, 0);
    assert!(stats <= 10 * 6, "{stats} stats");
}

#[test]
fn a_change_that_was_told_is_seen_at_the_next_open_whatever_its_size_and_time() {
    needs_fuse!();
    for believed in [Duration::ZERO, Duration::from_secs(60)] {
        let f = mount(believed);
        f.model.put("/f", b"one");
        assert_eq!(fs::read(f.mounted.join("f")).unwrap(), b"one");
        f.model.put("/f", b"two");
        f.mounted.server.file_system().changed(&FilePath::new(b"/f").unwrap());
        assert_eq!(fs::read(f.mounted.join("f")).unwrap(), b"two");
    }
}

#[test]
fn who_has_a_file_open_sees_its_change_once_it_was_opened_again() {
    needs_fuse!();
    let f = mount(Duration::ZERO);
    f.model.put("/f", b"one");
    let reader = fs::File::open(f.mounted.join("f")).unwrap();
    let text = || {
        let mut text = [0; 3];
        reader.read_exact_at(&mut text, 0).unwrap();
        text
    };
    assert_eq!(&text(), b"one");
    f.model.put("/f", b"two");
    f.mounted.server.file_system().changed(&FilePath::new(b"/f").unwrap());
    // What the guest's init does for a change that it is told of.
    drop(fs::File::open(f.mounted.join("f")).unwrap());
    assert_eq!(&text(), b"two");
}

#[test]
fn a_file_that_grows_is_read_to_its_new_end_by_who_has_it_open() {
    needs_fuse!();
    let f = mount(Duration::ZERO);
    f.model.put("/f", b"one");
    let mut file = fs::File::open(f.mounted.join("f")).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    f.model.put("/f", b"one two");
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one two");
}

#[test]
fn a_stat_is_one_question_a_name_and_a_list_one_and_its_entries_none() {
    needs_fuse!();
    let f = mount(Duration::ZERO);
    for i in 0..50 {
        f.model.put(&format!("/f{i}"), b"x");
    }
    fs::metadata(f.mounted.join("f1")).unwrap();
    f.asked.take();
    for _ in 0..10 {
        fs::metadata(f.mounted.join("f1")).unwrap();
    }
    let (stats, _, _) = f.asked.take();
    // The name is looked up; its attributes come with it, and the root's may be asked for.
    assert!(stats <= 10 * 3, "{stats} stats");
    assert_eq!(fs::read_dir(&f.mounted.path).unwrap().count(), 50);
    let (stats, lists, _) = f.asked.take();
    assert!(stats <= 4 && lists == 1, "{stats} stats, {lists} lists");
}
