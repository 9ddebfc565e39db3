//! What the guest fills memory with, and how it sums it up; the host does the same.

/// Bytes made of little-endian words of 8 bytes that count up from `seed`. The last word may be cut.
pub fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let words = (0..).map_while(|index| seed.checked_add(index));
    let mut bytes: Vec<u8> = words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    bytes.truncate(length);
    bytes
}

/// Every word of 8 bytes is added after the sum was rotated; the last is filled up with zeroes.
pub fn checksum(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0u64, |sum, word| {
        let mut whole = [0; 8];
        whole[..word.len()].copy_from_slice(word);
        sum.rotate_left(5).wrapping_add(u64::from_le_bytes(whole))
    })
}
