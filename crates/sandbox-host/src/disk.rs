//! From an opened image to a disk of the machine.

use std::fs::File;
use std::sync::Arc;

use blockcow::{Disk, ImageFormat};
use engine::DiskSpec;
use tokio::task::spawn_blocking;

use crate::artifact::{Artifact, Problem};
use crate::error::{Error, chain};
use crate::request::DiskFormat;

/// Opens the image as a disk that the guest finds by `serial`. `file` is another descriptor of
/// `image`.
///
/// # Errors
/// [`Error::Artifact`] when the image is not what its format asks for.
pub async fn open(
    image: &Artifact,
    file: File,
    format: DiskFormat,
    serial: &str,
) -> Result<DiskSpec, Error> {
    let format = match format {
        DiskFormat::Qcow2 => ImageFormat::Qcow2,
        DiskFormat::Raw => ImageFormat::Raw,
    };
    // It reads all tables of the image.
    let opened = spawn_blocking(move || Disk::open(file, format)).await;
    let disk = opened
        .map_err(|_| Error::Defect("The thread that opens the image"))?
        .map_err(|error| image.error(Problem::Image(chain(&error))))?;
    Ok(DiskSpec { serial: serial.to_owned(), disk: Arc::new(disk) })
}
