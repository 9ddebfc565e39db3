//! The L1 and L2 tables, followed once from end to end before the image is used.
//!
//! Reads each table once, so its cost is bounded by the length of the file: 64 KiB for each
//! 512 MiB of a disk with clusters of 64 KiB.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::header::Header;
use crate::error::OpenError;

/// Bits 9 to 55: an offset into the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const L2_COMPRESSED: u64 = 1 << 62;
const L2_COPIED: u64 = 1 << 63;
const L2_ZERO: u64 = 1;

/// Checks that everything the tables refer to is in the file.
pub(super) fn check(file: &File, header: &Header, file_length: u64) -> Result<(), OpenError> {
    let mut checked = HashSet::new();
    let mut table = vec![0; usize::try_from(header.cluster()).expect("2 MiB at most")];
    let mut l1 = vec![0; header.l1_entries as usize * 8];
    file.read_exact_at(&mut l1, header.l1_offset)?;
    for (index, entry) in entries(&l1).enumerate() {
        let index = index as u64;
        let offset = entry & OFFSET;
        if entry & L1_RESERVED != 0 || !offset.is_multiple_of(header.cluster()) {
            return Err(OpenError::Table { table: "L1", index, value: entry });
        }
        if offset == 0 || index >= header.tables_needed() || !checked.insert(offset) {
            continue;
        }
        let needed = offset + header.cluster();
        if needed > file_length {
            let what = "an L2 table";
            return Err(OpenError::Truncated { what, needed, length: file_length });
        }
        file.read_exact_at(&mut table, offset)?;
        check_l2(&table, index, header, file_length)?;
    }
    Ok(())
}

fn check_l2(table: &[u8], l1: u64, header: &Header, file_length: u64) -> Result<(), OpenError> {
    let first = l1 * header.table_span();
    for (index, entry) in entries(table).enumerate() {
        let position = first + index as u64 * header.cluster();
        if position >= header.size {
            break;
        }
        let wanted = header.cluster().min(header.size - position);
        let needed = end_of_data(entry, header, wanted).ok_or(OpenError::Table {
            table: "L2",
            index: position >> header.cluster_bits,
            value: entry,
        })?;
        if needed > file_length {
            let what = "a cluster of data";
            return Err(OpenError::Truncated { what, needed, length: file_length });
        }
    }
    Ok(())
}

/// Up to where the file must reach for the cluster of this entry, of which `wanted` bytes are in
/// the disk. Nothing when the entry is invalid.
fn end_of_data(entry: u64, header: &Header, wanted: u64) -> Option<u64> {
    if entry & L2_COMPRESSED != 0 {
        let offset_bits = 62 - (header.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        // The length is counted in sectors; the last byte of the first one is all that must be.
        let sectors = (entry & !(L2_COMPRESSED | L2_COPIED)) >> offset_bits;
        let whole = (offset & !511).checked_add(sectors * 512)?;
        return (entry & L2_COPIED == 0 && offset >> 56 == 0).then_some(whole.max(offset) + 1);
    }
    let offset = entry & OFFSET;
    if entry & L2_RESERVED != 0 || !offset.is_multiple_of(header.cluster()) {
        return None;
    }
    Some(if offset == 0 || entry & L2_ZERO != 0 { 0 } else { offset + wanted })
}

fn entries(table: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (entries, _) = table.as_chunks();
    entries.iter().map(|bytes| u64::from_be_bytes(*bytes))
}
