//! What must hold of any bytes; the fuzz targets call it, and so does a test with archives that
//! were damaged at random.

use crate::challenge::{Challenge, token_of};
use crate::config::ImageConfig;
use crate::limits::Limits;
use crate::manifest::Manifest;
use crate::name::parent_of;
use crate::reference::Reference;
use crate::tree::{Kind, Tree};

/// Any bytes as the archives of two layers: they merge into a tree, or they are refused.
///
/// # Panics
///
/// When the tree is not one.
pub fn fuzz_layers(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (lower, upper) = rest.split_at(rest.len() * usize::from(*first) / 256);
    let limits = Limits { entries: 10_000, ..Limits::default() };
    let Ok(tree) = Tree::of_archives(&[lower, upper], &limits) else { return };
    for (path, _, node) in tree.iter() {
        let parts = || path.split('/');
        assert!(
            path.is_empty() || parts().all(|part| !matches!(part, "" | "." | "..")),
            "{path:?}"
        );
        assert!(!path.contains('\0') && path.len() < 4096 && parts().all(|part| part.len() < 256));
        if let Some(parent) = parent_of(path) {
            assert!(tree.get(parent).is_some_and(|node| node.kind == Kind::Directory), "{path:?}");
        }
        if let Kind::File(content) = &node.kind {
            let archive = [lower, upper][content.layer].len() as u64;
            match &content.pieces {
                None => assert!(content.offset + content.size <= archive, "{path:?}"),
                Some(pieces) => {
                    let mut end = 0;
                    for piece in &**pieces {
                        assert!(
                            piece.at >= end && piece.offset + piece.size <= archive,
                            "{path:?}"
                        );
                        end = piece.at + piece.size;
                    }
                    assert!(end <= content.size, "{path:?}");
                }
            }
        }
        assert!(node.mode <= 0o7777);
    }
}

/// Any bytes as the documents and texts of a registry.
pub fn fuzz_documents(bytes: &[u8]) {
    let _ = Manifest::parse(bytes, None, &Limits::default());
    let _ = ImageConfig::parse(bytes, 1);
    let _ = token_of(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Challenge::parse(text);
        let _ = Reference::parse(text);
    }
}
