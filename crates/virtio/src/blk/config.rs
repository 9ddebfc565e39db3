//! Features and configuration space (virtio 1.2, 5.2.3 and 5.2.4).

use std::mem::{offset_of, size_of};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    virtio_blk_config,
};

use super::request::Geometry;
use crate::limits::{MAX_SEGMENT_BYTES, MAX_SEGMENTS, MAX_ZERO_RANGES, MAX_ZERO_SECTORS};

/// Bytes in which `capacity` counts.
pub(super) const SECTOR_BYTES: u32 = 512;

/// Sectors of the blocks that most file systems and our stores have: discarding less than one
/// frees nothing.
const DISCARD_ALIGNMENT: u32 = 8;

/// The feature bits that are this device type's.
pub(super) fn features(geometry: Geometry, queues: u16) -> u64 {
    let bit = |bit: u32| 1u64 << bit;
    let changes = if geometry.writable {
        bit(VIRTIO_BLK_F_FLUSH) | bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES)
    } else {
        bit(VIRTIO_BLK_F_RO)
    };
    changes
        | bit(VIRTIO_BLK_F_SIZE_MAX)
        | bit(VIRTIO_BLK_F_SEG_MAX)
        | bit(VIRTIO_BLK_F_BLK_SIZE)
        | if queues > 1 { bit(VIRTIO_BLK_F_MQ) } else { 0 }
}

/// The configuration space, little-endian.
pub(super) fn space(geometry: Geometry, queues: u16) -> Vec<u8> {
    let mut space = vec![0; size_of::<virtio_blk_config>()];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(virtio_blk_config, capacity), &geometry.sectors.to_le_bytes());
    put(offset_of!(virtio_blk_config, size_max), &MAX_SEGMENT_BYTES.to_le_bytes());
    put(offset_of!(virtio_blk_config, seg_max), &MAX_SEGMENTS.to_le_bytes());
    put(offset_of!(virtio_blk_config, blk_size), &SECTOR_BYTES.to_le_bytes());
    put(offset_of!(virtio_blk_config, num_queues), &queues.to_le_bytes());
    if geometry.writable {
        let (sectors, ranges) = (MAX_ZERO_SECTORS.to_le_bytes(), MAX_ZERO_RANGES.to_le_bytes());
        put(offset_of!(virtio_blk_config, max_discard_sectors), &sectors);
        put(offset_of!(virtio_blk_config, max_discard_seg), &ranges);
        let alignment = DISCARD_ALIGNMENT.to_le_bytes();
        put(offset_of!(virtio_blk_config, discard_sector_alignment), &alignment);
        put(offset_of!(virtio_blk_config, max_write_zeroes_sectors), &sectors);
        put(offset_of!(virtio_blk_config, max_write_zeroes_seg), &ranges);
        put(offset_of!(virtio_blk_config, write_zeroes_may_unmap), &[1]);
    }
    space
}
