//! Lays a tree out as an ext4 filesystem with an empty journal.
//!
//! The filesystem's UUID (and with it the seed of the directory hashes) is derived from what
//! the tree holds, so it tells two images apart and costs no randomness.

use std::collections::HashMap;

use mkext4::{FsBuilder, InodeHandle, Meta, Options, ROOT, SpecialKind};
use sha2::{Digest, Sha256};

use crate::content::{Content, Reader};
use crate::error::{Error, Result};
use crate::sparse_file::SparseFile;
use crate::tree::{Entry, Kind, Tree, name_of, parent_of};

const MIB: u64 = 1024 * 1024;
/// The writer makes ext4 blocks of 4 KiB.
const BLOCKS_PER_MIB: u32 = 256;

/// The measures of the filesystem to make.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Volume label, 16 bytes at most.
    pub(crate) label: String,
    pub(crate) size_mib: u32,
    pub(crate) journal_mib: u32,
}

/// Write the whole filesystem into a new temporary file.
pub(crate) fn write(tree: &Tree, plan: &Plan) -> Result<SparseFile> {
    let size = u64::from(plan.size_mib) * MIB;
    let mut options = Options::new(size, uuid_of(tree, plan), i64::from(tree.epoch()));
    options.label = Some(plan.label.clone());
    options.journal_blocks = Some(plan.journal_mib * BLOCKS_PER_MIB);
    // A sandbox has no administrator to hold blocks back for.
    options.reserved_percent = 0;
    let mut builder = FsBuilder::new(options)?;
    let contents = declare(tree, &mut builder)?;
    let layout = builder.seal()?;
    let temporary = std::env::temp_dir();
    let mut image =
        SparseFile::new(size).map_err(Error::file("make a temporary file in", &temporary))?;
    let mut writer = layout.writer(&mut image)?;
    let mut reader = Reader::default();
    for (path, handle, content) in contents {
        let mut bytes = reader.open(content).map_err(Error::file("open", content.origin_name()))?;
        writer
            .fill(handle, &mut bytes)
            .map_err(|error| Error::Entry { path: path.to_owned(), source: error })?;
    }
    writer.finish()?;
    Ok(image)
}

type Contents<'a> = Vec<(&'a str, InodeHandle, &'a Content)>;

/// Declare every entry; hard links last, when what they point to is there.
fn declare<'a>(tree: &'a Tree, builder: &mut FsBuilder) -> Result<Contents<'a>> {
    let mut handles: HashMap<&str, InodeHandle> = HashMap::from([("", ROOT)]);
    let mut contents = Vec::new();
    let mut links = Vec::new();
    for (path, entry) in tree.iter() {
        if let Kind::HardLink(target) = &entry.kind {
            links.push((path, target.as_str()));
            continue;
        }
        let at = |error| Error::Entry { path: path.to_owned(), source: error };
        let handle = match parent_of(path) {
            None => {
                builder.set_meta(ROOT, meta_of(entry)).map_err(at)?;
                ROOT
            }
            // ext4 makes this directory itself.
            Some("") if name_of(path) == "lost+found" => continue,
            Some(parent) => {
                let parent = *handles
                    .get(parent)
                    .ok_or_else(|| Error::tree(path, "has no directory to lie in"))?;
                declare_entry(builder, parent, name_of(path), entry).map_err(at)?
            }
        };
        for (name, value) in &entry.xattrs {
            builder.set_xattr(handle, name, value).map_err(at)?;
        }
        if let Kind::File(content) = &entry.kind
            && content.size > 0
        {
            contents.push((path, handle, content));
        }
        handles.insert(path, handle);
    }
    for (path, target) in links {
        let target = final_target(tree, path, target)?;
        let (Some(parent), Some(file)) =
            (parent_of(path).and_then(|parent| handles.get(parent)), handles.get(target))
        else {
            return Err(Error::tree(path, "is a hard link to something that is not there"));
        };
        builder
            .hardlink(*parent, name_of(path), *file)
            .map_err(|error| Error::Entry { path: path.to_owned(), source: error })?;
    }
    Ok(contents)
}

/// A hard link may name another hard link; the end of the chain is the file.
fn final_target<'a>(tree: &'a Tree, path: &str, mut target: &'a str) -> Result<&'a str> {
    for _ in 0..tree.iter().count() {
        match tree.get(target).map(|entry| &entry.kind) {
            Some(Kind::HardLink(next)) => target = next,
            _ => return Ok(target),
        }
    }
    Err(Error::tree(path, "is a hard link to itself"))
}

fn declare_entry(
    builder: &mut FsBuilder,
    parent: InodeHandle,
    name: &str,
    entry: &Entry,
) -> mkext4::Result<InodeHandle> {
    let meta = meta_of(entry);
    match &entry.kind {
        Kind::Directory => builder.mkdir(parent, name, meta),
        Kind::File(content) => builder.file(parent, name, meta, content.size),
        Kind::Symlink(target) => builder.symlink(parent, name, target, meta),
        Kind::Character { major, minor } => {
            let kind = SpecialKind::Char { major: *major, minor: *minor };
            builder.mknod(parent, name, meta, kind)
        }
        Kind::Block { major, minor } => {
            let kind = SpecialKind::Block { major: *major, minor: *minor };
            builder.mknod(parent, name, meta, kind)
        }
        Kind::Fifo => builder.mknod(parent, name, meta, SpecialKind::Fifo),
        Kind::HardLink(_) => {
            Err(mkext4::Error::Invalid("hard links are declared after files".to_owned()))
        }
    }
}

fn meta_of(entry: &Entry) -> Meta {
    Meta::new(entry.mode, entry.uid, entry.gid, (i64::from(entry.mtime), 0))
}

/// The first half of a hash over names, metadata and measures, marked as a version 8 UUID
/// (RFC 9562, 5.8: the scheme is the maker's own).
fn uuid_of(tree: &Tree, plan: &Plan) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(format!("{} {} {} {}", plan.label, plan.size_mib, plan.journal_mib, tree.epoch()));
    for (path, entry) in tree.iter() {
        let what = match &entry.kind {
            // Where the bytes lie on this host is no property of the image.
            Kind::File(content) => format!("File {}", content.size),
            other => format!("{other:?}"),
        };
        hash.update(format!(
            "\0{path}\0{what} {:o} {} {} {}",
            entry.mode, entry.uid, entry.gid, entry.mtime
        ));
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&digest[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
#[path = "filesystem/tests.rs"]
mod tests;
