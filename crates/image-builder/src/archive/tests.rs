use std::io::Write;

use tar::{Builder, Header};

use super::*;

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1000);
    header.set_size(0);
    header
}

fn read_archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Result<Tree> {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&builder.into_inner().unwrap()).unwrap();
    let mut tree = Tree::new(2000);
    read(&mut tree, file.path()).map(|()| tree)
}

#[test]
fn metadata_is_kept() {
    let tree = read_archive(|archive| {
        let mut su = header(EntryType::Regular, 0o4755);
        su.set_uid(5);
        su.set_gid(70_000);
        su.set_size(3);
        archive.append_data(&mut su, "./bin/su", &b"abc"[..]).unwrap();
        let mut null = header(EntryType::Char, 0o666);
        null.set_device_major(1).unwrap();
        null.set_device_minor(3).unwrap();
        archive.append_data(&mut null, "dev/null", &b""[..]).unwrap();
        let mut link = header(EntryType::Link, 0o4755);
        archive.append_link(&mut link, "bin/su2", "./bin/su").unwrap();
        let mut symlink = header(EntryType::Symlink, 0o777);
        archive.append_link(&mut symlink, "sbin", "usr/sbin").unwrap();
    })
    .unwrap();
    let su = tree.get("bin/su").unwrap();
    assert_eq!((su.mode, su.uid, su.gid, su.mtime), (0o4755, 5, 70_000, 1000));
    let Kind::File(content) = &su.kind else { panic!("{su:?}") };
    assert_eq!((content.offset % 512, content.size), (0, 3));
    assert_eq!(tree.get("dev/null").unwrap().kind, Kind::Character { major: 1, minor: 3 });
    assert_eq!(tree.get("bin/su2").unwrap().kind, Kind::HardLink("bin/su".to_owned()));
    assert_eq!(tree.get("sbin").unwrap().kind, Kind::Symlink("usr/sbin".to_owned()));
    assert_eq!(tree.get("bin").unwrap().mode, 0o755, "made because nobody gave it");
}

#[test]
fn pax_records_bring_attributes_long_names_and_times() {
    let long = format!("usr/{}/f", "d".repeat(200));
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let tree = read_archive(|archive| {
        let records = [
            ("mtime", &b"1500.25"[..]),
            ("SCHILY.xattr.security.capability", capability),
            ("path", long.as_bytes()),
        ];
        archive.append_pax_extensions(records).unwrap();
        let mut file = header(EntryType::Regular, 0o755);
        archive.append_data(&mut file, "short", &b""[..]).unwrap();
    })
    .unwrap();
    let entry = tree.get(&long).unwrap();
    assert_eq!(entry.mtime, 1500);
    assert_eq!(entry.xattrs.get("security.capability").map(Vec::as_slice), Some(capability));
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let sparse = read_archive(|archive| {
        archive.append_pax_extensions([("GNU.sparse.major", &b"1"[..])]).unwrap();
        archive.append_data(&mut header(EntryType::Regular, 0o644), "f", &b""[..]).unwrap();
    });
    assert!(sparse.unwrap_err().to_string().contains("/f: sparse"));
    let unknown = read_archive(|archive| {
        archive.append_data(&mut header(EntryType::new(b'Z'), 0o644), "f", &b""[..]).unwrap();
    });
    assert!(unknown.unwrap_err().to_string().contains("type 90"));
    let dangling = read_archive(|archive| {
        archive.append_link(&mut header(EntryType::Link, 0o644), "a", "b").unwrap();
    });
    assert!(dangling.is_err());
}

#[test]
fn a_path_that_climbs_is_refused() {
    let climbing = read_archive(|archive| {
        let mut file = header(EntryType::Regular, 0o644);
        file.as_mut_bytes()[..9].copy_from_slice(b"a/../../b");
        file.set_cksum();
        archive.append(&file, &b""[..]).unwrap();
    });
    assert!(climbing.unwrap_err().to_string().contains("cannot be used"));
}

#[test]
fn a_cut_off_archive_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut entry = header(EntryType::Regular, 0o644);
    entry.set_size(9000);
    entry.set_path("f").unwrap();
    entry.set_cksum();
    file.write_all(entry.as_bytes()).unwrap();
    let mut tree = Tree::new(0);
    let outcome = read(&mut tree, file.path());
    let plan = crate::filesystem::Plan { label: "x".to_owned(), size_mib: 16, journal_mib: 4 };
    assert!(outcome.and_then(|()| crate::filesystem::write(&tree, &plan)).is_err());
}
