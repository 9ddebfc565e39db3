//! The header, checked once into what the rest needs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::base::open::check_size;
use crate::error::OpenError;
use crate::limits::{CACHED_L2_TABLES, MAX_L1_ENTRIES, MAX_L2_CACHE_BYTES};

const MAGIC: u32 = u32::from_be_bytes(*b"QFI\xfb");
const LENGTH_V2: usize = 72;
const LENGTH_V3: usize = 104;
/// Up to and with the compression type.
const LENGTH_READ: usize = 112;
const FEATURE_NAMES: u32 = 0x6803_f857;

/// Bits of `incompatible_features`.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// A header that can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Size of the disk.
    pub(super) size: u64,
    /// Logarithm of the cluster size, 9 to 21.
    pub(super) cluster_bits: u32,
    /// Where the L1 table lies; inside the file.
    pub(super) l1_offset: u64,
    /// How many entries it has; enough for the size.
    pub(super) l1_entries: u32,
}

/// Big-endian fields by offset.
struct Fields([u8; LENGTH_READ]);

impl Fields {
    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }
}

impl Header {
    pub(super) fn read(file: &File, file_length: u64) -> Result<Self, OpenError> {
        let mut fields = Fields([0; LENGTH_READ]);
        let mut present = 0;
        while present < LENGTH_READ {
            match file.read_at(&mut fields.0[present..], present as u64)? {
                0 => break,
                count => present += count,
            }
        }
        if present < 4 || fields.u32(0) != MAGIC {
            return Err(OpenError::NotQcow2);
        }
        let truncated = |needed: usize| OpenError::Truncated {
            what: "the header",
            needed: needed as u64,
            length: file_length,
        };
        if present < LENGTH_V2 {
            return Err(truncated(LENGTH_V2));
        }
        match fields.u32(4) {
            2 => {}
            3 if present < LENGTH_V3 => return Err(truncated(LENGTH_V3)),
            3 => check_features(&fields)?,
            version => return Err(OpenError::Version(version)),
        }
        if fields.u64(8) != 0 {
            return Err(OpenError::BackingFile);
        }
        if fields.u32(32) != 0 {
            return Err(OpenError::Encrypted(fields.u32(32)));
        }
        let header = Self {
            size: fields.u64(24),
            cluster_bits: fields.u32(20),
            l1_offset: fields.u64(40),
            l1_entries: fields.u32(36),
        };
        header.check(file_length)?;
        if fields.u32(4) == 3 {
            header.check_extensions(file, u64::from(fields.u32(100)))?;
        }
        Ok(header)
    }

    fn check(&self, file_length: u64) -> Result<(), OpenError> {
        let invalid = |field, value| OpenError::Header { field, value };
        // The format's least, and the most that QEMU takes.
        if !(9..=21).contains(&self.cluster_bits) {
            return Err(invalid("cluster_bits", u64::from(self.cluster_bits)));
        }
        check_size(self.size)?;
        if self.l1_entries > MAX_L1_ENTRIES {
            return Err(OpenError::TableTooLarge {
                table: "L1",
                needed: u64::from(self.l1_entries) * 8,
                limit: u64::from(MAX_L1_ENTRIES) * 8,
            });
        }
        let l2_cache = self.tables_needed().min(CACHED_L2_TABLES) << self.cluster_bits;
        if l2_cache > MAX_L2_CACHE_BYTES {
            return Err(OpenError::TableTooLarge {
                table: "L2",
                needed: l2_cache,
                limit: MAX_L2_CACHE_BYTES,
            });
        }
        if self.tables_needed() > u64::from(self.l1_entries) {
            return Err(invalid("l1_size", u64::from(self.l1_entries)));
        }
        if !self.l1_offset.is_multiple_of(self.cluster()) || self.l1_offset == 0 {
            return Err(invalid("l1_table_offset", self.l1_offset));
        }
        let end = self.l1_offset.saturating_add(u64::from(self.l1_entries) * 8);
        if end > file_length {
            let length = file_length;
            return Err(OpenError::Truncated { what: "the L1 table", needed: end, length });
        }
        Ok(())
    }

    /// `imago` panics when the last entry of the table of feature names has one byte.
    fn check_extensions(&self, file: &File, mut at: u64) -> Result<(), OpenError> {
        while at.saturating_add(8) <= self.cluster() {
            let mut extension = [0; 8];
            file.read_exact_at(&mut extension, at)?;
            let [kind, length] = [0, 4].map(|field| {
                let bytes = extension[field..field + 4].try_into().expect("four bytes");
                u32::from_be_bytes(bytes)
            });
            if kind == 0 {
                break;
            }
            if kind == FEATURE_NAMES && !length.is_multiple_of(48) {
                let value = u64::from(length);
                return Err(OpenError::Header { field: "length of the feature names", value });
            }
            at += 8 + u64::from(length).next_multiple_of(8);
        }
        Ok(())
    }

    /// Bytes of a cluster.
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the disk that one L2 table is for: a cluster for each of its eight-byte entries.
    pub(super) fn table_span(&self) -> u64 {
        1 << (2 * self.cluster_bits - 3)
    }

    /// L2 tables that the disk's size calls for.
    pub(super) fn tables_needed(&self) -> u64 {
        self.size.div_ceil(self.table_span())
    }
}

fn check_features(fields: &Fields) -> Result<(), OpenError> {
    let features = fields.u64(72);
    let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2;
    let length = fields.u32(100);
    match features {
        _ if features & !known != 0 => Err(OpenError::UnknownFeatures(features & !known)),
        _ if features & EXTERNAL_DATA != 0 => Err(OpenError::ExternalDataFile),
        _ if features & CORRUPT != 0 => Err(OpenError::Corrupt),
        _ if features & DIRTY != 0 => Err(OpenError::Dirty),
        _ if features & EXTENDED_L2 != 0 => Err(OpenError::ExtendedL2),
        _ if features & COMPRESSION != 0 => Err(OpenError::Compression(fields.0[104])),
        _ if (length as usize) < LENGTH_V3 || !length.is_multiple_of(8) => {
            Err(OpenError::Header { field: "header_length", value: u64::from(length) })
        }
        _ => Ok(()),
    }
}
