//! Serves one disk image to one front end on a socket path, as `qemu-storage-daemon` does; for
//! measuring one beside the other. With a file for a store it can be written.
//!
//! `serve_block IMAGE qcow2|raw SOCKET QUEUES [STORE]`

use std::error::Error;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blockcow::{Disk, FileStore, ImageFormat, OverlayOptions, StoreContext};
use tokio::runtime::{Builder, Runtime};
use virtio::BlockOptions;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (image, format, socket, queues, store) = match &arguments[..] {
        [image, format, socket, queues] => (image, format, socket, queues, None),
        [image, format, socket, queues, store] => (image, format, socket, queues, Some(store)),
        _ => return Err("usage: serve_block IMAGE qcow2|raw SOCKET QUEUES [STORE]".into()),
    };
    let format = match &format[..] {
        "qcow2" => ImageFormat::Qcow2,
        "raw" => ImageFormat::Raw,
        _ => return Err("the format is qcow2 or raw".into()),
    };
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let mut disk = Disk::open(File::open(image)?, format)?;
    if let Some(store) = store {
        disk = writable(&runtime, &disk, Path::new(store))?;
    }
    let listener = UnixListener::bind(socket)?;
    let (stream, _) = listener.accept()?;
    let options = BlockOptions { serial: "measured".to_owned(), queues: queues.parse()? };
    let server = virtio::serve_block(stream, Arc::new(disk), options)?;
    while !server.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(server.stop()?)
}

fn writable(runtime: &Runtime, base: &Disk, path: &Path) -> Result<Disk, Box<dyn Error>> {
    let store = Arc::new(FileStore::open_or_create(path, "measured")?);
    let context = StoreContext { base: "measured".into(), generation: 1 };
    Ok(runtime.block_on(base.with_store(store, context, OverlayOptions::default()))?)
}
