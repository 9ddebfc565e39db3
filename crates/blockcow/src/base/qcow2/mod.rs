//! qcow2 images.
//!
//! `imago` reads tables and inflates clusters; it never opens a file by itself here, because it
//! is given an open one and its "implicit dependencies" are not asked for. Before it sees an
//! image, `header` and `tables` have checked everything that it would follow, because it takes
//! bytes beyond the end of a file for zeros, does not look at the encryption field, and keeps
//! whole tables in memory. It runs on blocking threads only, where a panic ends one read.
//!
//! ```text
//!  position ─► map (1,024 clusters, cached) ─► zeros | file offset | compressed ─► block (cached)
//! ```

mod header;
mod image;
mod map;
mod tables;

pub(super) use image::Qcow2;
pub(super) use map::Map;
