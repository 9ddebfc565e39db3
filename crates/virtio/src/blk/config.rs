//! Features and configuration space (virtio 1.2, 5.2.3 and 5.2.4).

use std::mem::{offset_of, size_of};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_SIZE_MAX, virtio_blk_config,
};

use crate::limits::{MAX_SEGMENT_BYTES, MAX_SEGMENTS};

/// Bytes in which `capacity` counts.
pub(super) const SECTOR_BYTES: u32 = 512;

/// The feature bits that are this device type's.
pub(super) fn features(queues: u16) -> u64 {
    let bit = |bit: u32| 1u64 << bit;
    bit(VIRTIO_BLK_F_RO)
        | bit(VIRTIO_BLK_F_SIZE_MAX)
        | bit(VIRTIO_BLK_F_SEG_MAX)
        | bit(VIRTIO_BLK_F_BLK_SIZE)
        | if queues > 1 { bit(VIRTIO_BLK_F_MQ) } else { 0 }
}

/// The configuration space, little-endian.
pub(super) fn space(sectors: u64, queues: u16) -> Vec<u8> {
    let mut space = vec![0; size_of::<virtio_blk_config>()];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(offset_of!(virtio_blk_config, capacity), &sectors.to_le_bytes());
    put(offset_of!(virtio_blk_config, size_max), &MAX_SEGMENT_BYTES.to_le_bytes());
    put(offset_of!(virtio_blk_config, seg_max), &MAX_SEGMENTS.to_le_bytes());
    put(offset_of!(virtio_blk_config, blk_size), &SECTOR_BYTES.to_le_bytes());
    put(offset_of!(virtio_blk_config, num_queues), &queues.to_le_bytes());
    space
}
