//! A driver of virtio-blk (virtio 1.2, 5.2.6) made of the guest's chains.

use engine::DiskSpec;
use payload_guest::{Chain, DeviceFound, Guest, Taken, checksum, pattern};

use std::sync::Arc;

use blockcow::{BufferTarget, Disk, ImageFormat, MemoryStore, OverlayOptions, StoreContext};

/// Type of the device.
pub(crate) const BLOCK: u32 = 2;
pub(crate) const SECTOR: usize = 512;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
pub(crate) const DISCARD: u32 = 11;
pub(crate) const WRITE_ZEROES: u32 = 13;

/// How a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    IoError,
    Unsupported,
}

/// One device that the guest drives.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) device: usize,
    pub(crate) offered: u64,
}

/// A request's beginning.
pub(crate) fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// A whole request that reads.
pub(crate) fn read_chain(sector: u64, bytes: usize) -> Chain {
    Chain::out(&header(IN, sector)).and_input(bytes).and_input(1)
}

pub(crate) fn status(taken: &Taken) -> Status {
    match taken.inputs.last().unwrap().bytes[..] {
        [0] => Status::Ok,
        [1] => Status::IoError,
        [2] => Status::Unsupported,
        ref other => panic!("status {other:?}"),
    }
}

impl Block {
    /// The guest's disks, in their order, ready.
    pub(crate) async fn all(guest: &mut Guest) -> Vec<Self> {
        let mut found = Vec::new();
        for DeviceFound { number: device, features, .. } in guest.devices_of(BLOCK).await.unwrap() {
            guest.set_up(device, u64::MAX).await.unwrap();
            found.push(Self { device, offered: features });
        }
        found
    }

    /// Sectors of the disk.
    pub(crate) async fn capacity(&self, guest: &mut Guest) -> u64 {
        let bytes = guest.bytes(&format!("config {} 0 8", self.device)).await.unwrap();
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    async fn run(&self, guest: &mut Guest, chain: &Chain) -> Taken {
        guest.run(self.device, 0, chain).await.unwrap()
    }

    /// The checksum of what is there.
    pub(crate) async fn read(&self, guest: &mut Guest, sector: u64, bytes: usize) -> u64 {
        let taken = self.run(guest, &read_chain(sector, bytes)).await;
        assert_eq!(status(&taken), Status::Ok);
        assert_eq!(usize::try_from(taken.length).unwrap(), bytes + 1);
        taken.inputs[0].sum
    }

    pub(crate) async fn try_read(&self, guest: &mut Guest, sector: u64, bytes: usize) -> Status {
        status(&self.run(guest, &read_chain(sector, bytes)).await)
    }

    pub(crate) async fn write(
        &self,
        guest: &mut Guest,
        sector: u64,
        bytes: usize,
        seed: u64,
    ) -> Status {
        let chain = Chain::out(&header(OUT, sector)).and_pattern(bytes, seed).and_input(1);
        status(&self.run(guest, &chain).await)
    }

    pub(crate) async fn flush(&self, guest: &mut Guest) -> Status {
        let chain = Chain::out(&header(FLUSH, 0)).and_input(1);
        status(&self.run(guest, &chain).await)
    }

    /// Discards or zeroes a range.
    pub(crate) async fn clear(
        &self,
        guest: &mut Guest,
        kind: u32,
        sector: u64,
        sectors: u32,
    ) -> Status {
        let range = [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &[0; 4]].concat();
        let chain = Chain::out(&header(kind, 0)).and_out(&range).and_input(1);
        status(&self.run(guest, &chain).await)
    }

    pub(crate) async fn identity(&self, guest: &mut Guest) -> String {
        let chain = Chain::out(&header(GET_ID, 0)).and_input(20).and_input(1);
        let taken = self.run(guest, &chain).await;
        assert_eq!(status(&taken), Status::Ok);
        String::from_utf8_lossy(&taken.inputs[0].bytes).trim_end_matches('\0').to_owned()
    }

    /// A request of a type that there is not.
    pub(crate) async fn unknown(&self, guest: &mut Guest) -> Status {
        let chain = Chain::out(&header(99, 0)).and_input(1);
        status(&self.run(guest, &chain).await)
    }
}

/// A disk that can be read only, of a pattern.
pub(crate) fn plain(sectors: usize, seed: u64) -> Arc<Disk> {
    let image = crate::support::file(&pattern(sectors * SECTOR, seed));
    Arc::new(Disk::open(image, ImageFormat::Raw).unwrap())
}

/// One over it that can be written, whose changes are kept in memory.
pub(crate) async fn writable(sectors: usize, seed: u64) -> Arc<Disk> {
    let base = plain(sectors, seed);
    let store = Arc::new(MemoryStore::new(64 << 20));
    let context = StoreContext { base: "test".into(), generation: 1 };
    Arc::new(base.with_store(store, context, OverlayOptions::default()).await.unwrap())
}

pub(crate) fn spec_of(serial: &str, disk: &Arc<Disk>) -> DiskSpec {
    DiskSpec { serial: serial.to_owned(), disk: Arc::clone(disk) }
}

/// The checksum of what the host finds on a disk.
pub(crate) async fn sum_of(disk: &Disk, sector: u64, bytes: usize) -> u64 {
    let mut content = vec![0; bytes];
    disk.read(sector * SECTOR as u64, &mut BufferTarget::new(&mut content)).await.unwrap();
    checksum(&content)
}
