//! Layers over each other, by the image specification's layer.md.
//!
//! A layer's whiteouts are about the layers below it alone, wherever they stand in its archive. So
//! an archive is read as a whole, its whiteouts are applied, then its other members in order.
//! Nothing is followed on the way to a name: a member below a symbolic link is refused, whichever
//! layer made the link.

use std::fs::File;

use crate::archive::{Damage, Member, MemberKind, Members, ReadAt};
use crate::blob_cache::BlobCache;
use crate::download::Layer;
use crate::error::{Error, Result};
use crate::layer;
use crate::limits::Limits;
use crate::name::{last_of, parent_of, path_of, shown_name, target_of};
use crate::progress::Progress;
use crate::sparse::Piece;
use crate::tree::{Budget, Content, EntryProblem, Kind, Node, Tree};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// An image as one tree, and where its files' bytes are.
#[derive(Debug)]
pub struct Merged {
    /// What the image holds.
    pub tree: Tree,
    /// The uncompressed archives, from the lowest layer to the topmost. They have no names, so
    /// they are gone with this value.
    pub archives: Vec<File>,
}

/// Uncompress and check the layers, and merge them. This takes a processor's time and the disk's.
///
/// # Errors
///
/// Whatever is refused, with the layer and the name.
pub fn merge(
    layers: Vec<Layer>,
    cache: &BlobCache,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Merged> {
    let mut merged = Merged { tree: Tree::default(), archives: Vec::new() };
    let mut budget = Budget::new(limits);
    let mut left = limits.image_bytes;
    let count = layers.len();
    for (number, layer) in layers.into_iter().enumerate() {
        let digest = layer.descriptor.digest;
        let what = format!("unpacking layer {} of {count}", number + 1);
        let mut step = progress.begin(&what, layer.descriptor.size);
        let (archive, size) = layer::unpack(layer, cache, limits, left, &mut *step)?;
        left -= size;
        merged.tree.apply(&archive, number, &mut budget).map_err(|damage| Error::Entry {
            layer: digest,
            name: shown_name(&damage.name),
            problem: damage.problem,
        })?;
        merged.archives.push(archive);
    }
    Ok(merged)
}

/// A member whose name was checked.
enum Change {
    /// Hide what lower layers have at this path.
    Whiteout(String),
    /// Hide what lower layers have below this path.
    Opaque(String),
    Link {
        path: String,
        target: String,
    },
    Node(String, Node),
}

impl Tree {
    /// Put a layer's archive over what there is; `layer` is what its files' contents refer to.
    fn apply<S: ReadAt + ?Sized>(
        &mut self,
        archive: &S,
        layer: usize,
        budget: &mut Budget,
    ) -> std::result::Result<(), Damage> {
        let unread = |_| Damage { name: Vec::new(), problem: EntryProblem::Truncated };
        let mut changes = Vec::new();
        for member in Members::new(archive).map_err(unread)? {
            let member = member?;
            let name = member.name.clone();
            let change =
                budget.take(member.weight(), member.size()).and_then(|()| change_of(member, layer));
            match change {
                Ok(change) => changes.push((name, change)),
                Err(problem) => return Err(Damage { name, problem }),
            }
        }
        for (_, change) in &changes {
            match change {
                Change::Whiteout(path) => self.remove(path),
                Change::Opaque(path) => self.clear(path),
                Change::Link { .. } | Change::Node(..) => {}
            }
        }
        let mut hidden = Vec::new();
        for (name, change) in changes {
            let done = match change {
                Change::Whiteout(path) => {
                    hidden.push((name, path));
                    continue;
                }
                Change::Opaque(path) => {
                    hidden.push((name, format!("{path}/{OPAQUE}")));
                    continue;
                }
                Change::Link { path, target } => self.link(&path, &target),
                Change::Node(path, node) => self.insert(&path, node),
            };
            done.map_err(|problem| Damage { name, problem })?;
        }
        // With the layer in place, its whiteouts must lie in directories like everything else.
        for (name, path) in hidden {
            self.check_parents(path.trim_start_matches('/'))
                .map_err(|problem| Damage { name, problem })?;
        }
        Ok(())
    }

    /// Merge archives that are in memory. What cannot be merged is told with the name's bytes.
    ///
    /// # Errors
    ///
    /// The name and what is wrong with the member.
    pub fn of_archives(
        archives: &[&[u8]],
        limits: &Limits,
    ) -> std::result::Result<Self, (Vec<u8>, EntryProblem)> {
        let mut tree = Self::default();
        let mut budget = Budget::new(limits);
        for (number, archive) in archives.iter().enumerate() {
            tree.apply(*archive, number, &mut budget)
                .map_err(|damage| (damage.name, damage.problem))?;
        }
        Ok(tree)
    }
}

impl Member {
    /// Bytes of its texts.
    fn weight(&self) -> usize {
        let xattrs: usize =
            self.records.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let pieces = match &self.kind {
            MemberKind::File { pieces: Some(pieces), .. } => size_of_val::<[Piece]>(pieces),
            _ => 0,
        };
        2 * self.name.len() + self.link.len() + xattrs + pieces
    }

    /// Bytes of its content, with its holes.
    fn size(&self) -> u64 {
        if let MemberKind::File { size, .. } = self.kind { size } else { 0 }
    }
}

fn change_of(member: Member, layer: usize) -> std::result::Result<Change, EntryProblem> {
    let path = path_of(&member.name)?;
    let last = last_of(&path);
    let parent = parent_of(&path).unwrap_or("");
    if last == OPAQUE {
        return Ok(Change::Opaque(parent.to_owned()));
    }
    if let Some(hidden) = last.strip_prefix(WHITEOUT) {
        // `.wh..wh.` begins what aufs kept for itself; other names cannot be.
        if matches!(hidden, "" | "." | "..") || hidden.starts_with(WHITEOUT) {
            return Err(EntryProblem::Whiteout);
        }
        let path = if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") };
        return Ok(Change::Whiteout(path));
    }
    // Nothing may hide in a directory that a later layer could only take for a whiteout.
    if path.split('/').any(|part| part.starts_with(WHITEOUT)) {
        return Err(EntryProblem::Whiteout);
    }
    let kind = match member.kind {
        MemberKind::HardLink => {
            let target = path_of(&member.link).map_err(EntryProblem::Target)?;
            return Ok(Change::Link { path, target });
        }
        MemberKind::Symlink => {
            Kind::Symlink(target_of(&member.link).map_err(EntryProblem::Target)?)
        }
        MemberKind::Directory => Kind::Directory,
        MemberKind::File { offset, size, pieces } => {
            Kind::File(Content { layer, offset, size, pieces })
        }
        MemberKind::Character { major, minor } => Kind::Character { major, minor },
        MemberKind::Block { major, minor } => Kind::Block { major, minor },
        MemberKind::Fifo => Kind::Fifo,
    };
    let Member { mode, uid, gid, mtime, records, .. } = member;
    Ok(Change::Node(path, Node { kind, mode, uid, gid, mtime, xattrs: records.xattrs }))
}

#[cfg(test)]
#[path = "merge/tests.rs"]
mod tests;
