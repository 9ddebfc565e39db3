//! An image of an OCI registry as a tree of this builder.
//!
//! Of its configuration nothing is applied: a lane is told what to run, as whom and where. What it
//! says becomes facts (topic `oci`), for whoever boots the image to use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use oci_image::{
    BlobCache, Credentials, Digest, Error as Refused, ImageConfig, Limits, Merged, Patience,
    PlainHttp, Progress, Reference, Registry,
};

use crate::arguments::Arguments;
use crate::build::Source;
use crate::content::{Content, Origin};
use crate::error::{Error, Result};
use crate::facts::Fact;
use crate::filesystem::Plan;
use crate::tree::{Entry, Kind, Tree};
use crate::{bars, guest_basics};

const MIB: u64 = 1024 * 1024;
/// The disk, unless the files would fill more than half of it: then twice theirs, in whole GiB.
const SIZE_MIB: u64 = 4096;
const JOURNAL_MIB: u32 = 8;
/// Facts of one kind, and characters of one; a descriptor has its own limit.
const MAX_FACTS: usize = 64;
const MAX_FACT: usize = 2048;

/// Pull the image, merge it, and add what every guest has.
pub(crate) fn read(reference: &str, arguments: &Arguments) -> Result<Source> {
    let reference = Reference::parse(reference)?;
    let limits = Limits {
        layer_bytes: arguments.oci.max_layer_mib * MIB,
        image_bytes: arguments.oci.max_image_mib * MIB,
        ..Limits::default()
    };
    let progress = bars::progress();
    let (digest, config, merged) = pull(&reference, &arguments.oci.insecure, &limits, &*progress)?;
    let epoch = arguments.epoch.or(config.created).unwrap_or_else(|| newest(&merged));
    let mut tree = convert(merged, epoch)?;
    guest_basics::add(&mut tree)?;
    let size = SIZE_MIB.max((2 * content_mib(&tree)).next_multiple_of(1024));
    let short = format!("oci-{}", &digest.hex()[..12]);
    let plan = Plan {
        label: arguments.id.clone().unwrap_or(short),
        size_mib: match arguments.size_mib {
            Some(size) => size,
            None => u32::try_from(size).map_err(|_| Error::Image("it is too large".to_owned()))?,
        },
        journal_mib: arguments.journal_mib.unwrap_or(JOURNAL_MIB),
    };
    let name = arguments.name.clone().unwrap_or_else(|| reference.image_name());
    Ok(Source { tree, name, plan, facts: facts_of(&digest, &config) })
}

fn pull(
    reference: &Reference,
    insecure: &[String],
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Digest, ImageConfig, Merged)> {
    let cache = BlobCache::open(&cache_folder()?)?;
    let credentials = match Credentials::default_path() {
        Some(path) => Credentials::find(&path, reference.registry())?,
        None => None,
    };
    let plain = PlainHttp::with(insecure)?;
    let registry = Registry::new(reference, credentials, plain, Patience::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Image(format!("no runtime: {error}")))?;
    let download = oci_image::download(reference, &registry, &cache, limits, progress);
    let download = runtime.block_on(download)?;
    let digest = reference.digest().unwrap_or(download.manifest);
    let merged = oci_image::merge(download.layers, &cache, limits, progress)?;
    Ok((digest, download.config, merged))
}

/// Blobs are kept with what the other tools of this project keep.
fn cache_folder() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = named.filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    let base = base.ok_or(Error::Missing("a home folder, or XDG_CACHE_HOME"))?;
    Ok(base.join("lanebox/blobs"))
}

fn newest(merged: &Merged) -> u32 {
    merged.tree.iter().map(|(_, _, node)| node.mtime).max().unwrap_or(0)
}

/// The first path of a file is its place, the others are hard links to it.
fn convert(merged: Merged, epoch: u32) -> Result<Tree> {
    let archives: Vec<Rc<std::fs::File>> = merged.archives.into_iter().map(Rc::new).collect();
    let mut tree = Tree::new(epoch);
    let mut places: HashMap<usize, &str> = HashMap::new();
    for (path, number, node) in merged.tree.iter() {
        let kind = match places.get(&number) {
            Some(place) => Kind::HardLink((*place).to_owned()),
            None => kind_of(&node.kind, &archives)?,
        };
        places.entry(number).or_insert(path);
        let mut entry = Entry::new(kind, node.mode, node.uid, node.gid, node.mtime);
        entry.xattrs.clone_from(&node.xattrs);
        tree.insert(path, entry)?;
    }
    Ok(tree)
}

fn kind_of(kind: &oci_image::Kind, archives: &[Rc<std::fs::File>]) -> Result<Kind> {
    Ok(match kind {
        oci_image::Kind::Directory => Kind::Directory,
        oci_image::Kind::File(content) => {
            let archive = archives.get(content.layer);
            let archive = archive.ok_or(Error::Missing("a layer"))?;
            Kind::File(Content {
                origin: Origin::Open(Rc::clone(archive)),
                offset: content.offset,
                size: content.size,
                pieces: content.pieces.clone(),
            })
        }
        oci_image::Kind::Symlink(target) => Kind::Symlink(target.clone()),
        oci_image::Kind::Character { major, minor } => {
            Kind::Character { major: *major, minor: *minor }
        }
        oci_image::Kind::Block { major, minor } => Kind::Block { major: *major, minor: *minor },
        oci_image::Kind::Fifo => Kind::Fifo,
    })
}

fn content_mib(tree: &Tree) -> u64 {
    let sizes = tree.iter().map(|(_, entry)| match &entry.kind {
        // What a name and an inode take.
        Kind::File(content) => content.size.next_multiple_of(4096) + 512,
        _ => 4096 + 512,
    });
    sizes.sum::<u64>().div_ceil(MIB)
}

/// What the configuration says. Texts that are too long, and more than there may be, are left out,
/// and the user is told.
fn facts_of(digest: &Digest, config: &ImageConfig) -> Vec<Fact> {
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let mut said: Vec<(&'static str, String)> = vec![("digest", digest.to_string())];
    said.extend(config.env.iter().map(|variable| ("env", variable.clone())));
    for (relation, words) in [("entrypoint", &config.entrypoint), ("cmd", &config.cmd)] {
        if !words.is_empty() {
            said.push((relation, list(words)));
        }
    }
    said.extend(config.user.clone().map(|user| ("user", user)));
    said.extend(config.working_dir.clone().map(|folder| ("working-directory", folder)));
    let all = said.len();
    said.retain(|(_, value)| value.len() <= MAX_FACT);
    said.truncate(MAX_FACTS);
    if said.len() < all {
        let left_out = all - said.len();
        eprintln!(
            "warning: {left_out} of what the image's configuration says do not fit into facts"
        );
    }
    said.into_iter().map(|(relation, value)| Fact::new("oci", relation, value)).collect()
}

impl From<Refused> for Error {
    fn from(error: Refused) -> Self {
        Self::Oci(Box::new(error))
    }
}

#[cfg(test)]
#[path = "oci_source/tests.rs"]
mod tests;
