//! Takes a tar archive (ustar, GNU or pax) into a tree.
//!
//! Kept: owners, modes with setuid and its like, whole seconds of the modification time,
//! symbolic and hard links, device nodes, FIFOs, and extended attributes from the
//! `SCHILY.xattr.` records that GNU tar and bsdtar write. Refused by name: sparse entries and
//! any type not listed here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;

use tar::{Archive, EntryType};

use crate::content::Content;
use crate::error::{Error, Result};
use crate::tree::{Entry, Kind, Tree, normalise};

const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// Add everything in the archive at `path` to the tree.
pub(crate) fn read(tree: &mut Tree, path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let source: Rc<Path> = Rc::from(path);
    let refuse = |reason: String| Error::Archive { archive: path.to_owned(), reason };
    let mut archive = Archive::new(file);
    let entries = archive.entries_with_seek().map_err(Error::file("read", path))?;
    for entry in entries {
        let mut entry = entry.map_err(Error::file("read", path))?;
        if entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let name = normalise(&entry.path_bytes()).map_err(refuse)?;
        let converted =
            convert(&mut entry, &source).map_err(|reason| refuse(format!("/{name}: {reason}")))?;
        tree.insert(&name, converted)?;
    }
    Ok(())
}

fn convert<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    source: &Rc<Path>,
) -> std::result::Result<Entry, String> {
    let extensions = extensions(entry)?;
    if extensions.keys().any(|key| key.starts_with("GNU.sparse.")) {
        return Err("sparse entries are not supported".to_owned());
    }
    let header = entry.header();
    let bad = |field: &str, error: std::io::Error| format!("{field}: {error}");
    let mode = header.mode().map_err(|error| bad("mode", error))? & 0o7777;
    let uid = header.uid().map_err(|error| bad("uid", error))?;
    let gid = header.gid().map_err(|error| bad("gid", error))?;
    let kind = kind_of(entry, source)?;
    let mtime = match extensions.get("mtime") {
        Some(text) => whole_seconds(text)?,
        None => header.mtime().map_err(|error| bad("mtime", error))?,
    };
    Ok(Entry {
        kind,
        mode: u16::try_from(mode).map_err(|_| "mode out of range".to_owned())?,
        uid: u32::try_from(uid).map_err(|_| "uid out of range".to_owned())?,
        gid: u32::try_from(gid).map_err(|_| "gid out of range".to_owned())?,
        mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
        xattrs: extensions
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(XATTR_PREFIX)?.to_owned(), value)))
            .collect(),
    })
}

fn kind_of<R: Read>(
    entry: &tar::Entry<'_, R>,
    source: &Rc<Path>,
) -> std::result::Result<Kind, String> {
    let header = entry.header();
    let device = |number: std::io::Result<Option<u32>>| match number {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err("device without a number".to_owned()),
        Err(error) => Err(format!("device number: {error}")),
    };
    Ok(match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => {
            Kind::File(Content::named(Rc::clone(source), entry.raw_file_position(), entry.size()))
        }
        EntryType::Symlink => Kind::Symlink(link_target(entry)?),
        EntryType::Link => Kind::HardLink(normalise(link_target(entry)?.as_bytes())?),
        EntryType::Char => Kind::Character {
            major: device(header.device_major())?,
            minor: device(header.device_minor())?,
        },
        EntryType::Block => Kind::Block {
            major: device(header.device_major())?,
            minor: device(header.device_minor())?,
        },
        EntryType::Fifo => Kind::Fifo,
        other => return Err(format!("entries of type {:?} are not supported", other.as_byte())),
    })
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> std::result::Result<String, String> {
    let bytes = entry.link_name_bytes().ok_or_else(|| "link without a target".to_owned())?;
    String::from_utf8(bytes.into_owned()).map_err(|_| "link target is not UTF-8".to_owned())
}

fn extensions<R: Read>(
    entry: &mut tar::Entry<'_, R>,
) -> std::result::Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    let read = |error: std::io::Error| format!("pax records: {error}");
    let Some(records) = entry.pax_extensions().map_err(read)? else { return Ok(found) };
    for record in records {
        let record = record.map_err(read)?;
        let key = record.key().map_err(|_| "pax key is not UTF-8".to_owned())?;
        found.insert(key.to_owned(), record.value_bytes().to_vec());
    }
    Ok(found)
}

/// A pax time is a decimal number of seconds that may have a fraction or be negative.
fn whole_seconds(text: &[u8]) -> std::result::Result<u64, String> {
    let text = std::str::from_utf8(text).map_err(|_| "mtime is not a number".to_owned())?;
    if text.starts_with('-') {
        return Ok(0);
    }
    let seconds = text.split('.').next().unwrap_or(text);
    seconds.parse().map_err(|_| format!("mtime '{text}' is not a number"))
}

#[cfg(test)]
#[path = "archive/tests.rs"]
mod tests;
