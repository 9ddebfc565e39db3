//! Configuration space (virtio 1.2, 5.11.4). The device type has no feature that is offered.

/// Bytes of the field that holds the tag, and so of the longest tag.
pub(super) const TAG_BYTES: usize = 36;

/// `struct virtio_fs_config` without the size of notifications: the tag, ended by a NUL where it
/// is shorter, and the number of request queues, little-endian.
pub(super) fn space(tag: &str, request_queues: u16) -> Vec<u8> {
    let mut space = tag.as_bytes().to_vec();
    space.resize(TAG_BYTES, 0);
    space.extend(u32::from(request_queues).to_le_bytes());
    space
}
