//! Serves one disk image to one front end on a socket path, as `qemu-storage-daemon` does; for
//! measuring one beside the other.
//!
//! `serve_block IMAGE qcow2|raw SOCKET QUEUES`

use std::error::Error;
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use blockcow::{Disk, ImageFormat};
use virtio::BlockOptions;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, format, socket, queues] = &arguments[..] else {
        return Err("usage: serve_block IMAGE qcow2|raw SOCKET QUEUES".into());
    };
    let format = match &format[..] {
        "qcow2" => ImageFormat::Qcow2,
        "raw" => ImageFormat::Raw,
        _ => return Err("the format is qcow2 or raw".into()),
    };
    let disk = Arc::new(Disk::open(File::open(image)?, format)?);
    let listener = UnixListener::bind(socket)?;
    let (stream, _) = listener.accept()?;
    let options = BlockOptions { serial: "measured".to_owned(), queues: queues.parse()? };
    let server = virtio::serve_block(stream, disk, options)?;
    while !server.is_finished() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(server.stop()?)
}
