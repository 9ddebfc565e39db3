//! An opened image: `imago` behind two caches.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use imago::qcow2::Qcow2 as Driver;
use imago::{FormatAccess, Mapping};
use tokio::sync::Semaphore;

use super::Map;
use super::header::Header;
use super::tables;
use crate::base::Place;
use crate::base::read::{blocking, to_usize};
use crate::cache::Cache;
use crate::error::{OpenError, ReadError};
use crate::limits::{BLOCK_CACHE_BYTES, MAP_CACHE_BYTES, MAP_CLUSTERS, MIN_BLOCK_BYTES};

type Image = FormatAccess<imago::file::File>;

pub(crate) struct Qcow2 {
    image: Arc<Image>,
    size: u64,
    /// Bytes that are decompressed and kept together.
    block: u64,
    /// Bytes that one map describes; a multiple of `block`.
    span: u64,
    maps: Cache<u64, Map>,
    blocks: Cache<u64, Box<[u8]>>,
}

impl Qcow2 {
    pub(crate) fn open(file: &File, file_length: u64) -> Result<Self, OpenError> {
        let header = Header::read(file, file_length)?;
        tables::check(file, &header, file_length)?;
        let storage = imago::file::File::try_from(file.try_clone()?)?;
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut driver = Driver::<imago::file::File>::open_image(storage, false)?;
            // There are none, says the header. Said again here, so that none can be opened.
            driver.set_data_file(None);
            driver.set_backing(None);
            Ok::<_, io::Error>(FormatAccess::new(driver))
        }));
        let image = opened.map_err(|_| OpenError::Reader)??;
        let block = header.cluster().max(MIN_BLOCK_BYTES);
        Ok(Self {
            image: Arc::new(image),
            size: header.size,
            block,
            span: header.cluster() * MAP_CLUSTERS,
            maps: Cache::new(MAP_CACHE_BYTES, 1 << 10),
            blocks: Cache::new(BLOCK_CACHE_BYTES, block),
        })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn block(&self) -> u64 {
        self.block
    }

    pub(crate) fn cached_map(&self, position: u64) -> Option<Arc<Map>> {
        self.maps.get(&(position / self.span))
    }

    pub(crate) fn cached_block(&self, number: u64) -> Option<Arc<Box<[u8]>>> {
        self.blocks.get(&number)
    }

    /// The map that describes this position.
    pub(crate) async fn map(
        &self,
        position: u64,
        fetches: &Arc<Semaphore>,
    ) -> Result<Arc<Map>, ReadError> {
        let number = position / self.span;
        let start = number * self.span;
        let range = start..(start + self.span).min(self.size);
        let image = Arc::clone(&self.image);
        let build = move || Map::build(range, |at, length| place_at(&image, at, length));
        self.maps.get_or_fetch(&number, blocking(fetches, build)).await
    }

    /// The decompressed block of this number; the last one of a disk may be short.
    pub(crate) async fn block_at(
        &self,
        number: u64,
        fetches: &Arc<Semaphore>,
    ) -> Result<Arc<Box<[u8]>>, ReadError> {
        let start = number * self.block;
        let length = to_usize(self.block.min(self.size - start));
        let image = Arc::clone(&self.image);
        let inflate = move || {
            let mut bytes = vec![0; length];
            image.read(&mut bytes, start)?;
            Ok(bytes.into_boxed_slice())
        };
        self.blocks.get_or_fetch(&number, blocking(fetches, inflate)).await
    }
}

fn place_at(image: &Image, position: u64, length: u64) -> io::Result<(Place, u64)> {
    let (mapping, run) = image.get_mapping(position, length)?;
    let place = match mapping {
        Mapping::Raw { offset, .. } => Place::File(offset),
        Mapping::Zero { .. } => Place::Zeros,
        Mapping::Special { .. } => Place::Compressed,
        _ => return Err(io::Error::other("The image ends before its size")),
    };
    Ok((place, run))
}
