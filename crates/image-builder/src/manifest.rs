//! A written tree: one line an entry, for what no package holds.
//!
//! ```text
//! dir     PATH MODE UID GID
//! file    PATH MODE UID GID          contents: the same path below `files` beside the manifest
//! symlink PATH TARGET
//! char    PATH MODE UID GID MAJOR MINOR
//! block   PATH MODE UID GID MAJOR MINOR
//! fifo    PATH MODE UID GID
//! remove  PATH                       with everything below it; must exist
//! ```
//! Fields are separated by blanks (so no path here has one); `#` starts a comment line. Every
//! entry gets the tree's epoch as its time.

use std::path::Path;
use std::rc::Rc;

use crate::content::Content;
use crate::error::{Error, Result};
use crate::tree::{Entry, Kind, Tree, normalise};

/// Apply the manifest at `path` to the tree, line by line.
pub(crate) fn read(tree: &mut Tree, path: &Path) -> Result<()> {
    let files = path.with_file_name("files");
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    apply_text(tree, path, &text, &|at| contents(&files.join(at)))
}

/// What a `file` line's path holds.
type Files<'a> = &'a dyn Fn(&str) -> std::result::Result<Content, String>;

/// Apply a manifest's text; `path` is what errors call it.
pub(crate) fn apply_text(tree: &mut Tree, path: &Path, text: &str, files: Files) -> Result<()> {
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        apply(tree, line, files).map_err(|reason| Error::Manifest {
            manifest: path.to_owned(),
            line: index + 1,
            reason,
        })?;
    }
    Ok(())
}

fn apply(tree: &mut Tree, line: &str, files: Files) -> std::result::Result<(), String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let path = |raw: &str| normalise(raw.as_bytes());
    let tree_error = |error: Error| error.to_string();
    let (target, entry) = match fields.as_slice() {
        ["remove", at] => return tree.remove(&path(at)?).map_err(tree_error),
        ["symlink", at, to] => {
            (path(at)?, Entry::new(Kind::Symlink((*to).to_owned()), 0o777, 0, 0, tree.epoch()))
        }
        ["file", at, mode, uid, gid] => {
            let at = path(at)?;
            let kind = Kind::File(files(&at)?);
            (at, owned(kind, mode, uid, gid, tree.epoch())?)
        }
        ["dir", at, mode, uid, gid] => {
            (path(at)?, owned(Kind::Directory, mode, uid, gid, tree.epoch())?)
        }
        ["fifo", at, mode, uid, gid] => {
            (path(at)?, owned(Kind::Fifo, mode, uid, gid, tree.epoch())?)
        }
        [kind @ ("char" | "block"), at, mode, uid, gid, major, minor] => {
            let (major, minor) = (number(major)?, number(minor)?);
            let kind = match *kind {
                "char" => Kind::Character { major, minor },
                _ => Kind::Block { major, minor },
            };
            (path(at)?, owned(kind, mode, uid, gid, tree.epoch())?)
        }
        _ => return Err(format!("'{line}' is not understood")),
    };
    tree.insert(&target, entry).map_err(tree_error)
}

fn owned(
    kind: Kind,
    mode: &str,
    uid: &str,
    gid: &str,
    mtime: u32,
) -> std::result::Result<Entry, String> {
    let bits = u16::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o7777);
    let bits = bits.ok_or_else(|| format!("'{mode}' is not a mode"))?;
    Ok(Entry::new(kind, bits, number(uid)?, number(gid)?, mtime))
}

fn number(text: &str) -> std::result::Result<u32, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

fn contents(file: &Path) -> std::result::Result<Content, String> {
    let metadata =
        std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if !metadata.is_file() {
        return Err(format!("{} is not a file", file.display()));
    }
    Ok(Content::named(Rc::from(file), 0, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_of(text: &str) -> Result<Tree> {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        std::fs::create_dir_all(files.join("etc")).unwrap();
        std::fs::write(files.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        let manifest = folder.path().join("tree");
        std::fs::write(&manifest, text).unwrap();
        let mut tree = Tree::new(9);
        read(&mut tree, &manifest).map(|()| tree)
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let tree = tree_of(
            "# comment\n\ndir /tmp 1777 0 0\nfile /etc/hosts 0644 0 0\nsymlink /bin usr/bin\n\
             char /dev/null 0666 0 0 1 3\nblock /dev/vda 0660 0 6 254 0\nfifo /run/f 0600 5 6\n\
             dir /old/below 0755 0 0\nremove /old\n",
        )
        .unwrap();
        assert_eq!(tree.get("tmp").unwrap().mode, 0o1777);
        assert_eq!(tree.get("bin").unwrap().kind, Kind::Symlink("usr/bin".to_owned()));
        assert_eq!(tree.get("dev/null").unwrap().kind, Kind::Character { major: 1, minor: 3 });
        assert_eq!(tree.get("dev/vda").unwrap().gid, 6);
        assert_eq!(tree.get("run/f").unwrap().uid, 5);
        let Kind::File(content) = &tree.get("etc/hosts").unwrap().kind else { panic!() };
        assert_eq!(content.size, 20);
        assert!(tree.get("old/below").is_none());
    }

    #[test]
    fn an_error_names_the_line() {
        for text in [
            "dir /a 0755 0 0\nbogus /b",
            "dir /a 0755 0 0\ndir /b 0999 0 0",
            "dir /a 0755 0 0\ndir /b 0755 root 0",
            "dir /a 0755 0 0\nfile /etc/none 0644 0 0",
            "dir /a 0755 0 0\nremove /gone",
            "dir /a 0755 0 0\ndir /../b 0755 0 0",
        ] {
            let error = tree_of(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("tree:2: "), "{error}");
        }
    }
}
