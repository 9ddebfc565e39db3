//! Files with several names behind callbacks by path, some of which their owner takes away.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::model::Model;
use common::raw::{ROOT, Raw, u32s, z};
use vfs::Observer;
use vfs::callbacks::{CallbackFs, CallbackOptions, Features};
use vfs::fuse::Opcode;

const WRITE: u32 = 2;

struct Scene {
    raw: Raw<CallbackFs<Model>>,
    model: Model,
    file: u64,
    directory: u64,
}

/// `/d/one` and `/two` are one file, looked up in this order.
async fn scene() -> Scene {
    let model = Model::new(Features::ALL);
    let raw =
        Raw::new(CallbackFs::new(model.clone(), CallbackOptions::default(), Observer::log())).await;
    let directory = raw.mkdir(ROOT, b"d").await.unwrap();
    let (file, handle) = raw.create(directory, b"one").await.unwrap();
    raw.write(file, handle, 0, b"guest").await.unwrap();
    raw.release(file, handle).await.unwrap();
    assert_eq!(raw.link(file, ROOT, b"two").await, Ok(file));
    Scene { raw, model, file, directory }
}

impl Scene {
    async fn text(&self) -> Result<Vec<u8>, i32> {
        let handle = self.raw.open(self.file, 0).await?;
        let text = self.raw.read(self.file, handle, 0, 10).await;
        self.raw.release(self.file, handle).await?;
        text
    }

    async fn attr(&self) -> Result<Vec<u8>, i32> {
        self.raw.call(Opcode::GetAttr, self.file, &[0; 16]).await
    }
}

#[tokio::test]
async fn a_file_whose_first_name_is_removed_is_found_by_its_second() {
    for looked_up in [false, true] {
        let s = scene().await;
        s.model.delete("/d/one");
        if looked_up {
            assert_eq!(s.raw.lookup(s.directory, b"one").await, Err(libc::ENOENT));
        }
        assert_eq!(s.text().await.unwrap(), b"guest");
        assert!(s.attr().await.is_ok());
    }
}

#[tokio::test]
async fn a_file_whose_first_directory_is_removed_is_found_by_its_second_name() {
    for looked_up in [false, true] {
        let s = scene().await;
        s.model.delete("/d/one");
        s.model.delete("/d");
        if looked_up {
            // The directory has no name any more; the name below it is not looked up.
            assert_eq!(s.raw.lookup(ROOT, b"d").await, Err(libc::ENOENT));
        }
        assert_eq!(s.raw.lookup(ROOT, b"two").await, Ok(s.file));
        assert_eq!(s.text().await.unwrap(), b"guest");
    }
}

#[tokio::test]
async fn every_operation_on_a_file_tries_its_other_names() {
    let xattr = [u32s(&[1, 0]), z(b"user.a"), b"v".to_vec()].concat();
    let get = [u32s(&[100, 0]), z(b"user.a")].concat();
    let mode = {
        // FATTR_MODE
        let mut body = u32s(&[1, 0]);
        body.resize(88, 0);
        body[68..72].copy_from_slice(&0o600_u32.to_le_bytes());
        body
    };
    let fsync = |handle: u64| [&handle.to_le_bytes()[..], &[0; 8]].concat();
    for number in 0..8 {
        let s = scene().await;
        let Scene { raw, file, .. } = &s;
        raw.call(Opcode::SetXattr, *file, &xattr).await.unwrap();
        let handle = raw.open(*file, WRITE).await.unwrap();
        s.model.delete("/d/one");
        let result = match number {
            0 => raw.call(Opcode::GetAttr, *file, &[0; 16]).await.map(drop),
            1 => raw.call(Opcode::SetAttr, *file, &mode).await.map(drop),
            2 => raw.read(*file, handle, 0, 9).await.map(drop),
            3 => raw.write(*file, handle, 0, b"x").await.map(drop),
            4 => raw.call(Opcode::Fsync, *file, &fsync(handle)).await.map(drop),
            5 => raw.call(Opcode::GetXattr, *file, &get).await.map(drop),
            6 => raw.call(Opcode::ListXattr, *file, &u32s(&[100, 0])).await.map(drop),
            _ => raw.link(*file, ROOT, b"three").await.map(drop),
        };
        // The model has no fsync.
        let expected = if number == 4 { Err(libc::ENOSYS) } else { Ok(()) };
        assert_eq!(result, expected, "operation {number}");
    }
}

#[tokio::test]
async fn a_name_that_another_file_has_taken_is_not_this_files() {
    let s = scene().await;
    s.model.delete("/d/one");
    s.model.put("/d/one", b"another");
    assert!(s.attr().await.is_ok());
    assert_eq!(s.text().await.unwrap(), b"guest");
    assert_ne!(s.raw.lookup(s.directory, b"one").await.unwrap(), s.file);
}

#[tokio::test]
async fn without_its_last_name_a_file_is_stale_and_with_it_back_it_is_not() {
    let s = scene().await;
    s.model.delete("/two");
    s.model.delete("/d/one");
    assert_eq!(s.attr().await, Err(libc::ESTALE));
    assert_eq!(s.text().await, Err(libc::ESTALE));
    assert_eq!(s.raw.link(s.file, ROOT, b"three").await, Err(libc::ENOENT));
    assert_eq!(s.raw.lookup(ROOT, b"two").await, Err(libc::ENOENT));
    assert_eq!(s.raw.lookup(s.directory, b"one").await, Err(libc::ENOENT));
    s.model.put("/two", b"new");
    let new = s.raw.lookup(ROOT, b"two").await.unwrap();
    let handle = s.raw.open(new, 0).await.unwrap();
    assert_eq!(s.raw.read(new, handle, 0, 9).await.unwrap(), b"new");
}

#[tokio::test]
async fn an_open_file_is_kept_when_its_last_living_name_goes() {
    let s = scene().await;
    let handle = s.raw.open(s.file, WRITE).await.unwrap();
    s.model.delete("/d/one");
    s.raw.call(Opcode::Unlink, ROOT, &z(b"two")).await.unwrap();
    assert_eq!(s.raw.read(s.file, handle, 0, 9).await.unwrap(), b"guest");
    s.raw.write(s.file, handle, 5, b"!").await.unwrap();
    assert_eq!(s.raw.read(s.file, handle, 0, 9).await.unwrap(), b"guest!");
}
