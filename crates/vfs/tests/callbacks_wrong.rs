//! Callbacks that answer what cannot be: the guest gets EIO, the owner an event, nobody a panic.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::model::Model;
use common::raw::{ROOT, Raw, u32s, u64_at, z};
use vfs::callbacks::{
    CallbackFs, CallbackOptions, Callbacks, DirectoryEntry, Features, FilePath, FileStat,
};
use vfs::fuse::Opcode;
use vfs::{Errno, Event, Kind, Observer, Time};

#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    HugeSize,
    Mode,
    Nanos,
    Number,
    Device,
    RootIsAFile,
    TooManyBytes,
    WritesMore,
    WritesNothing,
    BadName,
    TwiceTheName,
    BadTarget,
    HugeXattr,
    BadXattrName,
    CreatesADirectory,
    SameNumber,
}

struct Liar {
    model: Model,
    wrong: Wrong,
}

impl Callbacks for Liar {
    fn features(&self) -> Features {
        Features::ALL
    }

    async fn stat(&self, path: &FilePath) -> Result<FileStat, Errno> {
        let mut stat = self.model.stat(path).await?;
        match self.wrong {
            Wrong::RootIsAFile => stat.kind = Kind::File,
            _ if path.as_bytes() == b"/" => {}
            Wrong::HugeSize => stat.size = Some(u64::MAX),
            Wrong::Mode => stat.permissions = Some(0o100_644),
            Wrong::Nanos => stat.modified = Some(Time { seconds: 0, nanos: 1_000_000_000 }),
            Wrong::Number => stat.ino = Some(0),
            Wrong::Device => stat.kind = Kind::BlockDevice,
            Wrong::SameNumber => (stat.ino, stat.nlink) = (Some(5), Some(1)),
            _ => {}
        }
        Ok(stat)
    }

    async fn list(&self, path: &FilePath) -> Result<Vec<DirectoryEntry>, Errno> {
        let mut list = self.model.list(path).await?;
        let entry =
            |name: &[u8]| DirectoryEntry { name: name.to_vec(), stat: FileStat::of(Kind::File) };
        match self.wrong {
            Wrong::BadName => list.push(entry(b"../x")),
            Wrong::TwiceTheName => list.push(entry(b"f")),
            _ => {}
        }
        Ok(list)
    }

    async fn read(&self, path: &FilePath, offset: u64, length: usize) -> Result<Bytes, Errno> {
        match self.wrong {
            Wrong::TooManyBytes => Ok(vec![1; length + 1].into()),
            _ => self.model.read(path, offset, length).await,
        }
    }

    async fn create_file(
        &self,
        path: &FilePath,
        kind: Kind,
        permissions: u32,
    ) -> Result<FileStat, Errno> {
        match self.wrong {
            Wrong::CreatesADirectory => Ok(FileStat::of(Kind::Directory)),
            _ => self.model.create_file(path, kind, permissions).await,
        }
    }

    async fn write(&self, path: &FilePath, offset: u64, contents: Bytes) -> Result<u64, Errno> {
        match self.wrong {
            Wrong::WritesMore => Ok(contents.len() as u64 + 1),
            Wrong::WritesNothing => Ok(0),
            // One byte at a time is slow, not wrong.
            _ => self.model.write(path, offset, contents.slice(..1)).await,
        }
    }

    async fn readlink(&self, path: &FilePath) -> Result<Vec<u8>, Errno> {
        match self.wrong {
            Wrong::BadTarget => Ok(vec![b'a'; 5000]),
            _ => self.model.readlink(path).await,
        }
    }

    async fn symlink(&self, target: &[u8], path: &FilePath) -> Result<(), Errno> {
        self.model.symlink(target, path).await
    }

    async fn getxattr(&self, _: &FilePath, _: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(vec![0; if self.wrong == Wrong::HugeXattr { 70_000 } else { 3 }])
    }

    async fn listxattr(&self, _: &FilePath) -> Result<Vec<Vec<u8>>, Errno> {
        let bad = self.wrong == Wrong::BadXattrName;
        Ok(vec![if bad { b"user.\0".to_vec() } else { b"user.a".to_vec() }])
    }
}

struct Scene {
    raw: Raw<CallbackFs<Liar>>,
    events: Arc<Mutex<Vec<Event>>>,
}

async fn scene(wrong: Wrong) -> Scene {
    let model = Model::new(Features::ALL);
    model.put("/f", b"0123456789");
    model.put("/g", b"g");
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let observer = Observer::new(move |event| heard.lock().unwrap().push(event));
    let fs = CallbackFs::new(Liar { model, wrong }, CallbackOptions::default(), observer.clone());
    Scene { raw: Raw::with(fs, vfs::fuse::Limits::default(), observer).await, events }
}

impl Scene {
    fn callbacks_reported(&self) -> Vec<&'static str> {
        let events = self.events.lock().unwrap();
        let name = |event: &Event| match event {
            Event::WrongAnswer { callback, .. } => *callback,
            other => panic!("{other:?}"),
        };
        events.iter().map(name).collect()
    }
}

#[tokio::test]
async fn stats_that_cannot_be_are_eio_and_reported() {
    for wrong in [Wrong::HugeSize, Wrong::Mode, Wrong::Nanos, Wrong::Number, Wrong::Device] {
        let scene = scene(wrong).await;
        assert_eq!(scene.raw.lookup(ROOT, b"f").await, Err(libc::EIO));
        assert_eq!(scene.callbacks_reported(), ["stat"]);
    }
    let scene = scene(Wrong::RootIsAFile).await;
    assert_eq!(scene.raw.call(Opcode::GetAttr, ROOT, &[0; 16]).await, Err(libc::EIO));
    assert_eq!(scene.callbacks_reported(), ["stat"]);
}

#[tokio::test]
async fn too_many_bytes_are_eio_and_reported() {
    let scene = scene(Wrong::TooManyBytes).await;
    let file = scene.raw.lookup(ROOT, b"f").await.unwrap();
    let handle = scene.raw.open(file, 2).await.unwrap();
    assert_eq!(scene.raw.read(file, handle, 0, 10).await, Err(libc::EIO));
    assert_eq!(scene.callbacks_reported(), ["read"]);
}

#[tokio::test]
async fn writes_that_count_wrong_are_eio_and_slow_ones_are_finished() {
    for wrong in [Wrong::WritesMore, Wrong::WritesNothing] {
        let scene = scene(wrong).await;
        let file = scene.raw.lookup(ROOT, b"f").await.unwrap();
        let handle = scene.raw.open(file, 2).await.unwrap();
        assert_eq!(scene.raw.write(file, handle, 0, b"abc").await, Err(libc::EIO));
        assert_eq!(scene.callbacks_reported(), ["write"]);
    }
    let scene = scene(Wrong::Nothing).await;
    let file = scene.raw.lookup(ROOT, b"f").await.unwrap();
    let handle = scene.raw.open(file, 2).await.unwrap();
    assert_eq!(scene.raw.write(file, handle, 8, b"abc").await, Ok(3));
    assert_eq!(scene.raw.read(file, handle, 0, 99).await.unwrap(), b"01234567abc");
}

#[tokio::test]
async fn lists_with_impossible_names_are_eio_and_double_ones_count_once() {
    let bad = scene(Wrong::BadName).await;
    assert_eq!(bad.raw.names(ROOT).await, Err(libc::EIO));
    assert_eq!(bad.callbacks_reported(), ["list"]);
    let twice = scene(Wrong::TwiceTheName).await;
    assert_eq!(twice.raw.names(ROOT).await.unwrap(), [b"f", b"g"]);
    assert_eq!(twice.callbacks_reported(), ["list"]);
}

#[tokio::test]
async fn targets_and_attributes_beyond_their_limits_are_eio() {
    let scene_ = scene(Wrong::BadTarget).await;
    let body = [z(b"l"), z(b"t")].concat();
    let link = u64_at(&scene_.raw.call(Opcode::Symlink, ROOT, &body).await.unwrap(), 0);
    assert_eq!(scene_.raw.call(Opcode::ReadLink, link, &[]).await, Err(libc::EIO));
    let huge = scene(Wrong::HugeXattr).await;
    let body = [u32s(&[100, 0]), z(b"user.a")].concat();
    assert_eq!(huge.raw.call(Opcode::GetXattr, ROOT, &body).await, Err(libc::EIO));
    let bad = scene(Wrong::BadXattrName).await;
    assert_eq!(bad.raw.call(Opcode::ListXattr, ROOT, &u32s(&[100, 0])).await, Err(libc::EIO));
}

#[tokio::test]
async fn a_created_file_that_is_no_file_is_eio_and_leaves_no_handle() {
    let scene = scene(Wrong::CreatesADirectory).await;
    assert_eq!(scene.raw.create(ROOT, b"new").await, Err(libc::EIO));
    let held = scene.raw.server.file_system().held();
    assert_eq!((held.nodes, held.files), (1, 0));
}

#[tokio::test]
async fn one_inode_number_for_two_files_keeps_them_apart() {
    let scene = scene(Wrong::SameNumber).await;
    let f = scene.raw.lookup(ROOT, b"f").await.unwrap();
    let g = scene.raw.lookup(ROOT, b"g").await.unwrap();
    assert_ne!(f, g);
    let handle = scene.raw.open(g, 0).await.unwrap();
    assert_eq!(scene.raw.read(g, handle, 0, 10).await.unwrap(), b"g");
    assert_eq!(scene.callbacks_reported(), ["stat"]);
}

#[tokio::test]
async fn a_directory_cannot_be_moved_into_itself() {
    let model = Model::new(Features::ALL);
    let fs = CallbackFs::new(model, CallbackOptions::default(), Observer::log());
    let raw = Raw::new(fs).await;
    let a = raw.mkdir(ROOT, b"a").await.unwrap();
    let b = raw.mkdir(a, b"b").await.unwrap();
    assert_eq!(raw.rename((ROOT, b"a"), (b, b"c"), 0).await, Err(libc::EINVAL));
    assert_eq!(raw.rename((a, b"b"), (ROOT, b"a"), 2).await, Err(libc::EINVAL));
    assert_eq!(raw.walk("a/b").await, Ok(b));
}

#[tokio::test]
async fn an_open_file_too_large_to_keep_is_not_unlinked() {
    let model = Model::new(Features::ALL);
    model.put("/big", &[7; 100]);
    let options = CallbackOptions { unlinked_bytes: 99, ..CallbackOptions::default() };
    let raw = Raw::new(CallbackFs::new(model.clone(), options, Observer::log())).await;
    let big = raw.lookup(ROOT, b"big").await.unwrap();
    let handle = raw.open(big, 2).await.unwrap();
    assert_eq!(raw.call(Opcode::Unlink, ROOT, &z(b"big")).await, Err(libc::EBUSY));
    assert_eq!(model.paths(), ["/", "/big"]);
    raw.release(big, handle).await.unwrap();
    raw.call(Opcode::Unlink, ROOT, &z(b"big")).await.unwrap();
}

#[tokio::test]
async fn what_the_host_replaced_is_another_file_and_what_was_announced_is_an_event() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let observer = Observer::new(move |event| heard.lock().unwrap().push(event));
    let model = Model::new(Features::ALL);
    model.put("/f", b"one");
    let fs = CallbackFs::new(model.clone(), CallbackOptions::default(), observer);
    let raw = Raw::new(fs).await;
    let first = raw.lookup(ROOT, b"f").await.unwrap();
    assert_eq!(raw.lookup(ROOT, b"f").await, Ok(first));
    model.delete("/f");
    model.put("/f", b"two");
    assert_ne!(raw.lookup(ROOT, b"f").await, Ok(first));
    let path = vfs::callbacks::FilePath::root().join(&vfs::Name::new(b"f").unwrap());
    raw.server.file_system().changed(&path);
    assert_eq!(*events.lock().unwrap(), [Event::Changed { path: b"/f".to_vec() }]);
}
