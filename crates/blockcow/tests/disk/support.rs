//! Bases, and short forms of what disks do.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use blockcow::qcow2::{Cluster, Qcow2Writer};
use blockcow::{
    BlockStore, BufferSource, BufferTarget, Disk, ImageFormat, OverlayOptions, ReadError,
    StoreContext, WriteError,
};

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Bytes that tell their sector.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| ((at / 512).wrapping_mul(37) % 251) as u8 + 1).collect()
}

pub(crate) fn raw_base(content: &[u8]) -> Disk {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Disk::open(file, ImageFormat::Raw).unwrap()
}

/// An image with clusters of 4 KiB, of which every third is a hole. And its content.
pub(crate) fn qcow2_base(size: usize) -> (Disk, Vec<u8>) {
    let mut content = content(size);
    let mut image = Qcow2Writer::new(tempfile::tempfile().unwrap(), size as u64, 4096).unwrap();
    for (number, cluster) in content.chunks_mut(4096).enumerate() {
        if number % 3 == 0 {
            cluster.fill(0);
        } else {
            let mut bytes = cluster.to_vec();
            bytes.resize(4096, 0);
            image.append(number as u64, &Cluster::Plain(bytes)).unwrap();
        }
    }
    let file = image.finish().unwrap();
    (Disk::open(file, ImageFormat::Qcow2).unwrap(), content)
}

pub(crate) fn context() -> StoreContext {
    blockcow::conformance::context()
}

pub(crate) async fn over(
    base: &Disk,
    store: &Arc<impl BlockStore>,
    options: OverlayOptions,
) -> Disk {
    let store: Arc<dyn BlockStore> = Arc::clone(store) as _;
    base.with_store(store, context(), options).await.unwrap()
}

pub(crate) async fn read(disk: &Disk, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = vec![0xee; length];
    disk.read(offset, &mut BufferTarget::new(&mut bytes)).await?;
    Ok(bytes)
}

pub(crate) async fn read_all(disk: &Disk) -> Vec<u8> {
    read(disk, 0, disk.size_bytes() as usize).await.unwrap()
}

pub(crate) async fn write(disk: &Disk, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
    disk.write(offset, &mut BufferSource::new(bytes)).await
}

pub(crate) fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).position(|(one, other)| one != other)
}

/// A new file in memory of the file system.
pub(crate) fn file() -> File {
    tempfile::tempfile().unwrap()
}
