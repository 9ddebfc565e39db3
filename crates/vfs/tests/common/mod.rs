//! A mount without a virtual machine: the host's own kernel as the guest, through /dev/fuse.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

pub mod model;
pub mod raw;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vfs::fuse::{Limits, MAX_REQUEST, Serve, Server};
use vfs::{FileSystem, Observer, Readable, Writable};

const READERS: usize = 2;

/// A mounted filesystem; unmounted when dropped.
pub struct Mounted<F: FileSystem> {
    pub path: PathBuf,
    pub server: Arc<Server<F>>,
    runtime: Option<tokio::runtime::Runtime>,
    readers: Vec<JoinHandle<()>>,
}

/// Why this machine cannot mount, or nothing.
pub fn why_not() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse cannot be opened: {error}"));
    }
    let root = nix::unistd::geteuid().is_root();
    (!root).then(|| "mounting needs root".to_string())
}

/// Ends a test early, by name and with the reason, where nothing can be mounted.
#[macro_export]
macro_rules! needs_fuse {
    () => {
        if let Some(reason) = common::why_not() {
            eprintln!("SKIPPED {}: {reason}", module_path!());
            return;
        }
    };
}

impl<F: FileSystem> Mounted<F> {
    pub fn new(fs: F, path: impl Into<PathBuf>) -> Self {
        Self::with(fs, path, Limits::default(), Observer::log())
    }

    pub fn with(fs: F, path: impl Into<PathBuf>, limits: Limits, observer: Observer) -> Self {
        let path = path.into();
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let kind = Some("fuse.lanebox");
        let flags = MsFlags::MS_NOATIME;
        mount(Some("lanebox"), &path, kind, flags, Some(options.as_str())).unwrap();
        let server = Arc::new(Server::new(fs, limits, observer));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let device = Arc::new(device);
        let readers = (0..READERS)
            .map(|_| {
                let (device, server) = (Arc::clone(&device), Arc::clone(&server));
                let handle = runtime.handle().clone();
                std::thread::spawn(move || serve(&device, &server, &handle))
            })
            .collect();
        Self { path, server, runtime: Some(runtime), readers }
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

fn serve<F: FileSystem>(
    device: &Arc<File>,
    server: &Arc<Server<F>>,
    runtime: &tokio::runtime::Handle,
) {
    let mut buffer = vec![0; MAX_REQUEST];
    loop {
        let length = match (&**device).read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            // Unmounted.
            Err(_) => return,
        };
        let reply = Writable::with_capacity(reply_room(&buffer[..length]));
        let request = Readable::from(buffer[..length].to_vec());
        let (device, server) = (Arc::clone(device), Arc::clone(server));
        runtime.spawn(async move { answer(&device, &*server, request, reply).await });
    }
}

async fn answer(device: &File, server: &dyn Serve, request: Readable, reply: Writable) {
    // The server keeps the room while it works; here it is taken back as bytes.
    let (length, reply) = handle(server, request, reply).await;
    if length > 0 {
        // ENOENT: the request was interrupted meanwhile.
        let _ = (&*device).write(&reply.to_vec(length));
    }
}

async fn handle(server: &dyn Serve, request: Readable, mut reply: Writable) -> (usize, Writable) {
    let length = server.handle(request, &mut reply).await;
    (length, reply)
}

/// What a virtqueue says with its descriptors: room for as much as the request asks for.
fn reply_room(request: &[u8]) -> usize {
    let opcode = u32::from_le_bytes(request[4..8].try_into().unwrap());
    match opcode {
        // READ, READDIR, READDIRPLUS: `size` behind the handle and the offset
        15 | 28 | 44 => 16 + u32::from_le_bytes(request[56..60].try_into().unwrap()) as usize,
        _ => 16 + 65_536,
    }
}

impl<F: FileSystem> Drop for Mounted<F> {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
