//! What every guest has, whoever made its image: `images/common`, the directories that the init
//! process mounts on, and an ordinary user.
//!
//! The image's own are left as they are, except for the files of `images/common`.

use std::path::Path;

use crate::content::Content;
use crate::error::Result;
use crate::facts;
use crate::manifest;
use crate::tree::{Entry, Kind, Tree};

const COMMON: &str = include_str!("../../../images/common/tree");
const FILES: [(&str, &[u8]); 4] = [
    ("etc/fstab", include_bytes!("../../../images/common/files/etc/fstab")),
    ("etc/hostname", include_bytes!("../../../images/common/files/etc/hostname")),
    ("etc/hosts", include_bytes!("../../../images/common/files/etc/hosts")),
    ("etc/resolv.conf", include_bytes!("../../../images/common/files/etc/resolv.conf")),
];
/// Where the init process mounts, and where programs expect to be let in.
const FOLDERS: [(&str, u16); 8] = [
    ("dev", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
];
const ID: u32 = 1000;

/// Add what is not there.
pub(crate) fn add(tree: &mut Tree) -> Result<()> {
    for (path, mode) in FOLDERS {
        add_folder(tree, path, mode, 0)?;
    }
    manifest::apply_text(tree, Path::new("images/common/tree"), COMMON, &|path| {
        let found = FILES.iter().find(|(name, _)| *name == path);
        found.map(|(_, bytes)| Content::memory(bytes)).ok_or_else(|| format!("no file {path}"))
    })?;
    add_user(tree)
}

fn add_folder(tree: &mut Tree, path: &str, mode: u16, owner: u32) -> Result<()> {
    if tree.get(path).is_some() {
        return Ok(());
    }
    let epoch = tree.epoch();
    tree.insert(path, Entry::new(Kind::Directory, mode, owner, owner, epoch))
}

/// `user`, 1000, unless the name or the number is somebody's, or users are not kept in the usual
/// files.
fn add_user(tree: &mut Tree) -> Result<()> {
    let passwd = facts::text(tree, "/etc/passwd")?;
    let taken = passwd.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some("user") || fields.nth(1) == Some("1000")
    });
    if taken {
        return Ok(());
    }
    let shell = facts::default_shell(tree).unwrap_or("/bin/sh");
    let first =
        |text: &str| if tree.get("etc/passwd").is_none() { text.to_owned() } else { String::new() };
    let root = first(&format!("root:x:0:0:root:/root:{shell}\n"));
    let line = format!("{root}user:x:1000:1000:user:/home/user:{shell}\n");
    if !append(tree, "etc/passwd", &line, 0o644)? {
        return Ok(());
    }
    let group = facts::text(tree, "/etc/group")?;
    if !group
        .lines()
        .any(|line| line.starts_with("user:") || line.split(':').nth(2) == Some("1000"))
    {
        let root = if tree.get("etc/group").is_none() { "root:x:0:\n" } else { "" };
        append(tree, "etc/group", &format!("{root}user:x:1000:\n"), 0o644)?;
    }
    if tree.get("etc/shadow").is_some() {
        append(tree, "etc/shadow", "user:*:20454:0:99999:7:::\n", 0o640)?;
    }
    add_folder(tree, "home/user", 0o755, ID)
}

/// Add lines to a text file, or make it; whether that could be done.
fn append(tree: &mut Tree, path: &str, lines: &str, mode: u16) -> Result<bool> {
    let epoch = tree.epoch();
    let Some(old) = tree.get(path) else {
        let kind = Kind::File(Content::memory(lines.as_bytes()));
        tree.insert(path, Entry::new(kind, mode, 0, 0, epoch))?;
        return Ok(true);
    };
    let Kind::File(content) = &old.kind else { return Ok(false) };
    let mut entry = old.clone();
    let mut text = facts::text(tree, &format!("/{path}"))?;
    // Not one that can be read.
    if text.len() as u64 != content.size {
        return Ok(false);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(lines);
    entry.kind = Kind::File(Content::memory(text.as_bytes()));
    entry.mtime = epoch;
    tree.insert(path, entry)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(7);
        for (path, text) in files {
            let kind = Kind::File(Content::memory(text.as_bytes()));
            tree.insert(path, Entry::new(kind, 0o600, 0, 42, 1)).unwrap();
        }
        add(&mut tree).unwrap();
        tree
    }

    fn text(tree: &Tree, path: &str) -> String {
        facts::text(tree, path).unwrap()
    }

    #[test]
    fn an_empty_image_gets_all_that_a_guest_needs() {
        let tree = with(&[]);
        assert_eq!(tree.get("workspace").unwrap().mode, 0o755);
        assert_eq!(tree.get("proc").unwrap().mode, 0o555);
        assert_eq!(text(&tree, "/etc/hostname"), "sandbox\n");
        assert_eq!(
            text(&tree, "/etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
        );
        assert_eq!(text(&tree, "/etc/group"), "root:x:0:\nuser:x:1000:\n");
        assert!(tree.get("etc/shadow").is_none());
        assert_eq!(tree.get("home/user").unwrap().uid, 1000);
    }

    #[test]
    fn the_users_of_an_image_stay() {
        let tree = with(&[
            ("etc/passwd", "root:x:0:0::/root:/bin/ash"),
            ("etc/group", "root:x:0:\nstaff:x:1000:\n"),
            ("etc/shadow", "root:*::0:::::\n"),
        ]);
        let passwd = text(&tree, "/etc/passwd");
        assert!(passwd.starts_with("root:x:0:0::/root:/bin/ash\nuser:x:1000:"), "{passwd}");
        assert_eq!(text(&tree, "/etc/group"), "root:x:0:\nstaff:x:1000:\n");
        assert!(text(&tree, "/etc/shadow").ends_with("\nuser:*:20454:0:99999:7:::\n"));
        let shadow = tree.get("etc/shadow").unwrap();
        assert_eq!((shadow.mode, shadow.gid), (0o600, 42));
    }

    #[test]
    fn a_user_with_the_number_is_the_ordinary_one() {
        let node = "node:x:1000:1000::/home/node:/bin/sh\n";
        let tree = with(&[("etc/passwd", node)]);
        assert_eq!(text(&tree, "/etc/passwd"), node);
        assert!(tree.get("home/user").is_none());
    }

    #[test]
    fn what_is_not_a_plain_file_is_left_alone() {
        let mut tree = Tree::new(7);
        let link = Entry::new(Kind::Symlink("/nix/passwd".to_owned()), 0o777, 0, 0, 1);
        tree.insert("etc/passwd", link.clone()).unwrap();
        tree.insert("tmp", Entry::new(Kind::Symlink("var/tmp".to_owned()), 0o777, 0, 0, 1))
            .unwrap();
        add(&mut tree).unwrap();
        assert_eq!(tree.get("etc/passwd").unwrap().kind, link.kind);
        assert!(matches!(tree.get("tmp").unwrap().kind, Kind::Symlink(_)));
    }
}
