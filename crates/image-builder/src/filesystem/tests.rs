use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use mkext4::reader::Fs;
use tempfile::NamedTempFile;

use super::*;
use crate::sparse_file::PART_SIZE;

const PLAN: (u32, u32) = (64, 4);

fn plan() -> Plan {
    Plan { label: "test".to_owned(), size_mib: PLAN.0, journal_mib: PLAN.1 }
}

/// The raw filesystem as a file that other programs can look at.
fn raw_file(disk: &SparseFile) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let mut part = vec![0; usize::try_from(PART_SIZE).unwrap()];
    for number in 0..disk.size() / PART_SIZE {
        disk.read_part(number, &mut part).unwrap();
        file.write_all(&part).unwrap();
    }
    file
}

fn host_file(bytes: &[u8]) -> (NamedTempFile, Kind) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let content = Content::named(Rc::from(file.path()), 0, bytes.len() as u64);
    (file, Kind::File(content))
}

/// One of everything that a root filesystem holds.
fn sample() -> (Tree, Vec<NamedTempFile>) {
    let mut tree = Tree::new(5000);
    let (small, kind) = host_file(b"root:x:0:0::/root:/bin/sh\n");
    tree.insert("etc/passwd", Entry::new(kind, 0o644, 0, 0, 4000)).unwrap();
    let bytes: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let (large, kind) = host_file(&bytes);
    let mut program = Entry::new(kind, 0o4755, 7, 70_000, 3000);
    program.xattrs.insert("security.capability".to_owned(), vec![1, 0, 0, 2, 0, 32, 0, 0]);
    program.xattrs.insert("user.large".to_owned(), vec![b'x'; 900]);
    tree.insert("usr/bin/su", program).unwrap();
    let link = Kind::HardLink("usr/bin/su".to_owned());
    tree.insert("bin/a-link", Entry::new(link, 0o4755, 7, 70_000, 3000)).unwrap();
    for (path, kind, mode) in [
        ("lib", Kind::Symlink("usr/lib".to_owned()), 0o777),
        ("lib64", Kind::Symlink("x/".repeat(100)), 0o777),
        ("dev/null", Kind::Character { major: 1, minor: 3 }, 0o666),
        ("dev/vda", Kind::Block { major: 254, minor: 0 }, 0o660),
        ("run/fifo", Kind::Fifo, 0o600),
        ("tmp", Kind::Directory, 0o1777),
    ] {
        tree.insert(path, Entry::new(kind, mode, 0, 0, 4000)).unwrap();
    }
    for number in 0..2000 {
        let path = format!("many/a-rather-long-name-for-file-{number}");
        tree.insert(&path, Entry::new(Kind::Fifo, 0o600, 0, 0, 4000)).unwrap();
    }
    (tree, vec![small, large])
}

#[test]
fn every_kind_of_entry_can_be_read_back() {
    let (tree, _files) = sample();
    let raw = raw_file(&write(&tree, &plan()).unwrap());
    let fs = Fs::open(raw.reopen().unwrap()).unwrap();
    assert_eq!(fs.verify().unwrap(), []);
    let number = |path| fs.resolve(path).unwrap();
    let inode = |path| fs.inode(number(path)).unwrap();
    let su = inode("/usr/bin/su");
    assert_eq!((su.mode, su.uid, su.gid), (0o104_755, 7, 70_000));
    assert_eq!((su.mtime, su.links_count), (3000, 2));
    assert_eq!(number("/bin/a-link"), number("/usr/bin/su"));
    assert_eq!(fs.read_file(number("/usr/bin/su")).unwrap().len(), 1_200_000);
    let xattrs = fs.xattrs(number("/usr/bin/su")).unwrap();
    assert!(xattrs.iter().any(|xattr| xattr.name == b"capability" && xattr.value.len() == 8));
    assert!(xattrs.iter().any(|xattr| xattr.name == b"large" && xattr.value.len() == 900));
    assert_eq!(fs.symlink_target(number("/lib")).unwrap(), b"usr/lib");
    assert_eq!(fs.symlink_target(number("/lib64")).unwrap().len(), 200);
    assert_eq!(inode("/dev/null").mode, 0o020_666);
    assert_eq!(inode("/tmp").mode, 0o041_777);
    assert_eq!(inode("/run/fifo").mode, 0o010_600);
    assert_eq!(fs.read_dir(number("/many")).unwrap().len(), 2002);
    assert!(fs.superblock().free_blocks_count > 12_000, "most of 64 MiB is free");
}

#[test]
fn two_builds_are_identical() {
    let (tree, _files) = sample();
    let (again, _others) = sample();
    let digest = |tree: &Tree| {
        let raw = raw_file(&write(tree, &plan()).unwrap());
        Sha256::digest(std::fs::read(raw.path()).unwrap())
    };
    assert_eq!(digest(&tree), digest(&again));
}

#[test]
fn the_uuid_tells_trees_apart() {
    let (tree, _files) = sample();
    let (mut other, _others) = sample();
    other.insert("one-more", Entry::new(Kind::Directory, 0o755, 0, 0, 0)).unwrap();
    assert_ne!(uuid_of(&tree, &plan()), uuid_of(&other, &plan()));
}

#[test]
fn more_than_fits_is_an_error() {
    let mut tree = Tree::new(0);
    let (_file, kind) = host_file(&vec![1; 40 << 20]);
    tree.insert("large", Entry::new(kind, 0o644, 0, 0, 0)).unwrap();
    let small = Plan { size_mib: 32, ..plan() };
    assert!(matches!(write(&tree, &small), Err(Error::Ext4(_))));
}

#[test]
fn an_unknown_attribute_names_its_file() {
    let mut tree = Tree::new(0);
    let mut entry = Entry::new(Kind::Directory, 0o755, 0, 0, 0);
    entry.xattrs.insert("bogus".to_owned(), vec![1]);
    tree.insert("some/where", entry).unwrap();
    let error = write(&tree, &plan()).unwrap_err().to_string();
    assert!(error.contains("/some/where"), "{error}");
}

#[test]
fn hard_links_in_a_circle_are_an_error() {
    let mut tree = Tree::new(0);
    tree.insert("a", Entry::new(Kind::Fifo, 0o644, 0, 0, 0)).unwrap();
    tree.insert("b", Entry::new(Kind::HardLink("a".to_owned()), 0o644, 0, 0, 0)).unwrap();
    tree.insert("a", Entry::new(Kind::HardLink("b".to_owned()), 0o644, 0, 0, 0)).unwrap();
    assert!(matches!(write(&tree, &plan()), Err(Error::Tree { .. })));
}

/// e2fsprogs has the last word, where it is installed.
#[test]
fn e2fsck_finds_nothing_to_complain_about() {
    let Some(e2fsck) =
        ["/sbin/e2fsck", "/usr/sbin/e2fsck"].into_iter().find(|at| Path::new(at).exists())
    else {
        eprintln!("skipped: e2fsck is not installed");
        return;
    };
    let (tree, _files) = sample();
    let raw = raw_file(&write(&tree, &plan()).unwrap());
    let output = Command::new(e2fsck).arg("-fn").arg(raw.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
