//! What an agent may want to know about an image before it runs anything, read from the files
//! themselves: triples of topic, relation and value.

use std::io::Read;

use serde::Serialize;

use crate::content::Reader;
use crate::error::{Error, Result};
use crate::tree::{Kind, Tree};

/// Where Linux systems keep commands, in the usual order of `PATH`.
const PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Commands worth naming: their presence or absence changes how an agent goes about its work.
const COMMANDS: [&str; 50] = [
    "apk",
    "apt-get",
    "awk",
    "bash",
    "busybox",
    "bzip2",
    "cargo",
    "cc",
    "cmake",
    "curl",
    "dd",
    "diff",
    "docker",
    "dpkg",
    "find",
    "gcc",
    "git",
    "go",
    "grep",
    "gzip",
    "ip",
    "jq",
    "less",
    "make",
    "mount",
    "nc",
    "node",
    "npm",
    "patch",
    "perl",
    "pip3",
    "ps",
    "python3",
    "rg",
    "rsync",
    "rustc",
    "sed",
    "sh",
    "sha256sum",
    "sqlite3",
    "ssh",
    "su",
    "sudo",
    "tar",
    "timeout",
    "unzip",
    "vi",
    "wget",
    "xargs",
    "xz",
];
/// The command that installs packages, and the name of its family.
const PACKAGE_MANAGERS: [(&str, &str); 3] = [("apt-get", "apt"), ("apk", "apk"), ("dnf", "dnf")];
/// A text file larger than this is not one we know how to read.
const MAX_TEXT: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fact {
    topic: &'static str,
    relation: &'static str,
    value: String,
}

impl Fact {
    pub(crate) fn new(
        topic: &'static str,
        relation: &'static str,
        value: impl Into<String>,
    ) -> Self {
        Self { topic, relation, value: value.into() }
    }
}

/// Facts in a fixed order: the image, the distribution, its tools, its commands.
pub(crate) fn facts_of(tree: &Tree, name: &str) -> Result<Vec<Fact>> {
    let mut facts =
        vec![Fact::new("rootfs", "image", name), Fact::new("rootfs", "write-mode", "none")];
    let release = text(tree, "/etc/os-release")?;
    for (key, relation) in [("ID", "name"), ("VERSION_ID", "version"), ("PRETTY_NAME", "title")] {
        if let Some(value) = setting(&release, key) {
            facts.push(Fact::new("distro", relation, value));
        }
    }
    let manager = PACKAGE_MANAGERS.iter().find(|(command, _)| has_command(tree, command));
    let manager = manager.map_or("none", |(_, family)| family);
    facts.push(Fact::new("package-manager", "name", manager));
    if let Some(shell) = default_shell(tree) {
        facts.push(Fact::new("shell", "default", shell));
    }
    for user in ordinary_users(&text(tree, "/etc/passwd")?) {
        facts.push(Fact::new("user", "exists", user));
    }
    if tree.get("workspace").is_some_and(|entry| entry.kind == Kind::Directory) {
        facts.push(Fact::new("directory", "exists", "/workspace"));
    }
    for command in COMMANDS.iter().filter(|command| has_command(tree, command)) {
        facts.push(Fact::new("command", "exists", *command));
    }
    Ok(facts)
}

fn has_command(tree: &Tree, command: &str) -> bool {
    PATH.iter().any(|folder| is_program(tree, &format!("{folder}/{command}")))
}

fn is_program(tree: &Tree, path: &str) -> bool {
    let entry = tree.resolve(path).and_then(|path| tree.get(path));
    entry.is_some_and(|entry| match &entry.kind {
        Kind::File(_) | Kind::HardLink(_) => entry.mode & 0o111 != 0,
        _ => false,
    })
}

/// The shell a person would be given, and the one every script can count on.
pub(crate) fn default_shell(tree: &Tree) -> Option<&'static str> {
    ["/bin/bash", "/bin/sh"].into_iter().find(|path| is_program(tree, path))
}

/// Users with an id that belongs to people (1000 up to 59999, as Debian's policy has it).
fn ordinary_users(passwd: &str) -> impl Iterator<Item = &str> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (1000..60_000).contains(&id).then_some(name)
    })
}

/// `KEY=value` or `KEY="value"` in a file such as /etc/os-release.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches('"'))
}

/// A file's text; empty when it is missing or not a small text file.
pub(crate) fn text(tree: &Tree, path: &str) -> Result<String> {
    let entry = tree.resolve(path).and_then(|path| tree.get(path));
    let Some(Kind::File(content)) = entry.map(|entry| &entry.kind) else {
        return Ok(String::new());
    };
    let name = content.origin_name();
    let origin = Reader::default().open(content).map_err(Error::file("open", name))?;
    let mut bytes = Vec::new();
    origin.take(MAX_TEXT).read_to_end(&mut bytes).map_err(Error::file("read", name))?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::rc::Rc;

    use super::*;
    use crate::content::Content;
    use crate::tree::Entry;

    fn file(path: &std::path::Path, mode: u16) -> Entry {
        let size = std::fs::metadata(path).unwrap().len();
        let content = Content::named(Rc::from(path), 0, size);
        Entry::new(Kind::File(content), mode, 0, 0, 0)
    }

    #[test]
    fn facts_come_from_the_files() {
        let mut release = tempfile::NamedTempFile::new().unwrap();
        writeln!(release, "PRETTY_NAME=\"Test 3\"\nID=test\nVERSION_ID=\"3\"").unwrap();
        let mut passwd = tempfile::NamedTempFile::new().unwrap();
        writeln!(passwd, "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh")
            .unwrap();
        let mut tree = Tree::new(0);
        tree.insert("etc/os-release", file(release.path(), 0o644)).unwrap();
        tree.insert("etc/passwd", file(passwd.path(), 0o644)).unwrap();
        tree.insert("bin/busybox", file(release.path(), 0o755)).unwrap();
        tree.insert("bin/git", file(release.path(), 0o644)).unwrap();
        let link = Entry::new(Kind::Symlink("busybox".to_owned()), 0o777, 0, 0, 0);
        tree.insert("bin/sh", link).unwrap();
        let facts = facts_of(&tree, "test:3").unwrap();
        let said =
            |topic, relation, value: &str| facts.contains(&Fact::new(topic, relation, value));
        assert!(said("rootfs", "image", "test:3"));
        assert!(said("rootfs", "write-mode", "none"));
        assert!(said("distro", "name", "test"));
        assert!(said("distro", "version", "3"));
        assert!(said("distro", "title", "Test 3"));
        assert!(said("package-manager", "name", "none"));
        assert!(said("shell", "default", "/bin/sh"));
        assert!(said("user", "exists", "user"));
        assert!(said("command", "exists", "sh"));
        assert!(!said("command", "exists", "git"), "it has no x bit");
    }

    #[test]
    fn an_empty_image_has_few_facts() {
        assert_eq!(facts_of(&Tree::new(0), "x:1").unwrap().len(), 3);
    }
}
